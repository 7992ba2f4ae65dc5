from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import pyrcnn
from pyrcnn import InputError, checkpoints, cli, deploy, inference, models, settings
from pyrcnn.checkpoints import bundled
from pyrcnn.train import TrainConfig
from tests.detector import dataset

FIXTURES = Path(__file__).parent / "fixtures/coco_eval"
NAME = "centernet_mobilenet_v2_fpn_512"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "m.safetensors"
    checkpoints.save(models.build(NAME, num_classes=2, input_size=64), file)
    return str(file)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of ``pyrcnn ARGUMENTS``."""
    monkeypatch.setattr(sys, "argv", ["pyrcnn", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    return int(exit.value.code or 0)


def test_detect_writes_images_and_json(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    dataset(tmp_path)
    arguments = ("detect", tmp_path / "images", "--weights", weights, "--out", tmp_path / "out", "--score", 0.0)
    assert run(monkeypatch, *arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(f["image"]).name for f in found] == [f"{n}.jpg" for n in range(1, 7)]
    assert [Path(f["annotated"]).name for f in found] == [f"{n}.jpg" for n in range(1, 7)]
    assert all(Image.open(f["annotated"]).size == (40, 30) for f in found)
    scores = [d["score"] for d in found[0]["detections"]]
    assert scores == sorted(scores, reverse=True)
    assert len(found[0]["detections"]) > 0
    assert set(found[0]["detections"][0]) == {"label", "category_id", "score", "box"}
    assert run(monkeypatch, *arguments, "--image-format", "png") == 0
    printed = capsys.readouterr().out
    assert f"annotated image: {tmp_path / 'out/6.png'}\n" in printed
    assert Image.open(tmp_path / "out/6.png").format == "PNG"
    nothing = ("detect", tmp_path / "images/1.jpg", "--weights", weights, "--out", tmp_path / "none")
    assert run(monkeypatch, *nothing, "--no-draw", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["annotated"] is None
    assert not (tmp_path / "none").exists()


def test_detect_gives_the_plain_models_results(monkeypatch, capsys, tmp_path: Path) -> None:
    """Optimized, read ahead and in batches: the same objects up to rounding."""
    folder = tmp_path / "images"
    folder.mkdir()
    with Image.open(bundled.images()[0]) as image:
        for n, size in enumerate([(640, 480), (320, 240), (320, 240), (300, 400), (640, 480)]):
            image.resize(size).save(folder / f"{n}.png")
    optimized = []
    optimize = deploy.optimize
    monkeypatch.setattr(deploy, "optimize", lambda model, *a, **k: optimized.append(k) or optimize(model, *a, **k))
    threads = torch.get_num_threads()
    results = []
    for options in (("--plain",), ("--threads", threads)):
        assert run(monkeypatch, "detect", folder, "--model", NAME, "--no-draw", "--json", *options) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert len(optimized) == 1
    for plain, fast in zip(*results, strict=True):
        assert len(plain["detections"]) == len(fast["detections"]) > 0
        for a, b in zip(plain["detections"], fast["detections"], strict=True):
            assert a["label"] == b["label"]
            assert a["score"] == pytest.approx(b["score"], abs=1e-3)
            assert a["box"] == pytest.approx(b["box"], abs=0.05)
    assert run(monkeypatch, "detect", "--model", NAME, "--no-draw") == 0  # one image is not worth it
    assert len(optimized) == 1
    assert run(monkeypatch, "detect", "--model", NAME, "--plain", "--engine", "native") == 2
    assert "engine must be left out with plain" in capsys.readouterr().err


def test_engine_reaches_optimize(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    dataset(tmp_path)
    given = []
    monkeypatch.setattr(deploy, "optimize", lambda model, *a, **options: given.append(options) or model)
    data = ("--annotations", tmp_path / "annotations.json", "--images", tmp_path / "images")
    for command in (
        ("detect", tmp_path / "images/1.jpg", "--no-draw"),
        ("evaluate", *data),
        ("benchmark", "--repeat", 1, "--size", 64, 64),
    ):
        assert run(monkeypatch, *command, "--weights", weights, "--engine", "native") == 0
    assert given == [{"engine": "native"}] * 3


def test_results_are_printed_as_they_come(monkeypatch, tmp_path: Path, weights: str) -> None:
    dataset(tmp_path)
    seen: list[str] = []
    monkeypatch.setattr(inference, "_run", recording(inference._run, seen))
    monkeypatch.setattr("builtins.print", lambda *a, **k: seen.append(str(a[0]).partition(":")[0]))
    assert run(monkeypatch, "detect", tmp_path / "images", "--weights", weights, "--no-draw", "--score", 1) == 0
    folder = tmp_path / "images"
    batches = [[1, 2, 3, 4], [5, 6]]
    assert seen == [step for batch in batches for step in (
        *(f"model {n}.jpg" for n in batch), *(str(folder / f"{n}.jpg") for n in batch))]  # fmt: skip


def recording(function: Any, seen: list[str]) -> Any:
    def wrapped(model: Any, images: Any) -> Any:
        seen.extend(f"model {item.source.path.name}" for item, _ in images)
        return function(model, images)

    return wrapped


def test_a_bad_file_does_not_stop_the_others(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    dataset(tmp_path)
    folder, out = tmp_path / "images", tmp_path / "out"
    (folder / "1.jpg").write_bytes((folder / "1.jpg").read_bytes()[:300])
    (folder / "4.jpg").write_text("no image")
    arguments = ("detect", folder, tmp_path / "none.jpg", "--weights", weights, "--out", out, "--json")
    assert run(monkeypatch, *arguments) == 1
    shown = capsys.readouterr()
    assert [Path(f["image"]).name for f in json.loads(shown.out)] == ["2.jpg", "3.jpg", "5.jpg", "6.jpg"]
    lines = shown.err.splitlines()
    assert len(lines) == 3
    for name, reason in (("none.jpg", ""), ("1.jpg", "is damaged"), ("4.jpg", "is not an image")):
        assert any(name in line and reason in line for line in lines)
    assert sorted(p.name for p in out.iterdir()) == ["2.jpg", "3.jpg", "5.jpg", "6.jpg"]


def test_brackets_are_printed_literally(monkeypatch, capsys, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.build(NAME, num_classes=1, input_size=64)
    model.classes = ["[bold]cell[/bold]"]
    checkpoints.save(model, tmp_path / "m.safetensors")
    image = tmp_path / "[red]a[1].png"
    Image.new("RGB", (40, 30)).save(image)
    assert run(monkeypatch, "detect", image, "--weights", tmp_path / "m.safetensors", "--no-draw", "--score", 0) == 0
    printed = capsys.readouterr().out
    assert f"{image}: 20 objects\n" in printed
    assert "\n  [bold]cell[/bold]   0." in printed


def test_models_prints_whole_names_in_80_columns(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, "models") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == models.names()
    assert header.split() == ["model", "params", "input", "mAP", "ms", "weights"]
    assert all(len(line) <= 80 for line in lines if "bundled" not in line)


def test_version(monkeypatch, capsys) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"pyrcnn {pyrcnn.__version__}\n"


@pytest.mark.parametrize("script", ["-m", "pyrcnn"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_does_not_import_torch(script: str, option: str, tmp_path: Path) -> None:
    """Of the installed script, and of ``python -m pyrcnn``."""
    package = Path(pyrcnn.__file__).parent.parent
    file = tmp_path / "pyrcnn"
    file.write_text(f"import sys\nsys.path[:1] = [{str(package)!r}]\nfrom pyrcnn.cli import main\nmain()\n")
    arguments = ["-m", "pyrcnn"] if script == "-m" else [str(file)]
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments, option],
        cwd=package,
        text=True,
        capture_output=True,
        check=True,
    )
    assert "pyrcnn" in ran.stdout
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "pyrcnn.cli" in imported
    assert not imported & {"torch", "numpy", "PIL"}


def test_evaluate_gives_cocos_keys_in_order(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    case = json.loads((FIXTURES / "expected.json").read_text())["cases"][2]
    files = ("--annotations", FIXTURES / case["gt"], "--detections", FIXTURES / case["dt"])
    assert run(monkeypatch, "evaluate", *files, "--keypoints", "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert list(scores) == ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]
    assert list(scores.values()) == pytest.approx(case["stats"], abs=1e-6)
    dataset(tmp_path)
    data = ("--annotations", tmp_path / "annotations.json", "--images", tmp_path / "images")
    assert run(monkeypatch, "evaluate", *data, "--weights", weights) == 0
    assert "AR100" in capsys.readouterr().out


def test_train_then_detect(monkeypatch, capsys, tmp_path: Path) -> None:
    dataset(tmp_path)
    data = ("--images", tmp_path / "images", "--annotations", tmp_path / "annotations.json")
    sets = [v for s in ("input_size=64", "epochs=1", "batch_size=2") for v in ("--set", s)]
    assert run(monkeypatch, "train", NAME, *data, *sets, "--out", tmp_path / "run") == 0
    assert "last.safetensors" in capsys.readouterr().out
    assert models.load(tmp_path / "run/last.safetensors").classes == ["cell", "disc"]
    assert run(monkeypatch, "train", NAME, *data, *sets, "--out", tmp_path / "run") == 2
    assert "resume=True" in capsys.readouterr().err


def test_scoring_runs_the_optimized_model(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    """In ``evaluate`` and after an epoch of training; the scores are the plain model's."""
    dataset(tmp_path)
    optimized = []
    optimize = deploy.optimize
    monkeypatch.setattr(deploy, "optimize", lambda model, *a, **k: optimized.append(model) or optimize(model, *a, **k))
    data = ("--images", tmp_path / "images", "--annotations", tmp_path / "annotations.json")
    scores = []
    for options in ((), ("--plain",)):
        assert run(monkeypatch, "evaluate", *data, "--weights", weights, "--json", *options) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert len(optimized) == 1
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    sets = [v for s in ("input_size=64", "epochs=1", "batch_size=2") for v in ("--set", s)]
    validation = ("--val-annotations", tmp_path / "annotations.json", *sets, "--out", tmp_path / "run")
    assert run(monkeypatch, "train", NAME, *data, *validation) == 0
    assert "AP " in capsys.readouterr().out
    assert len(optimized) == 2


def test_convert_and_benchmark_and_lists(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    out = tmp_path / "half.safetensors"
    assert run(monkeypatch, "convert", weights, out, "--model", NAME, "--set", "num_classes=2", "--half") == 0
    assert out.stat().st_size < 0.6 * Path(weights).stat().st_size
    assert run(monkeypatch, "benchmark", "--weights", out, "--repeat", 1, "--size", 64, 64, "--json") == 0
    capsys.readouterr()
    assert run(monkeypatch, "models", "--json") == 0
    assert [m["name"] for m in json.loads(capsys.readouterr().out)] == models.names()
    assert run(monkeypatch, "info", "--json") == 0
    assert "cpu_capability" in json.loads(capsys.readouterr().out)


def test_export_and_benchmark_of_the_optimized(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    out = tmp_path / "model.pt2"
    assert run(monkeypatch, "export", out, "--weights", weights) == 0
    assert capsys.readouterr().out == f"{out}\n"
    program = torch.export.load(out).module()
    assert program(torch.zeros(2, 3, 40, 50, dtype=torch.uint8))[0].shape == (2, 20, 4)
    assert run(monkeypatch, "export", out, "--weights", weights, "--pixels", "--size", 64, 64, "--overwrite") == 0
    program = torch.export.load(capsys.readouterr().out.strip()).module()
    assert program(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]))[0].shape == (1, 20, 4)
    times = ("benchmark", "--weights", weights, "--repeat", 1, "--size", 64, 64, "--optimize", "--json")
    assert run(monkeypatch, *times) == 0
    assert {"median", "optimized median"} <= set(json.loads(capsys.readouterr().out))
    for arguments, message in (
        (("export", tmp_path / "m.zip"), "path must end in .pt2"),
        (("export", tmp_path / "m.pt2", "--format", "coreml"), "format must be one of torch, aoti, onnx"),
        (("export", tmp_path / "m.pt2", "--size", 64, 63, "--pixels"), "size must be two positive multiples of 32"),
        (("export", tmp_path / "m.pt2", "--batch", 2), "size must be the height and width of the images"),
        (("export", tmp_path / "m.pt2", "--dtype", "int8"), "--dtype must be one of auto, float32"),
        (("benchmark", "--dtype", "int8"), "--dtype must be one of auto, float32"),
    ):
        assert run(monkeypatch, *arguments, "--weights", weights) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt2"]


def test_bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    dataset(tmp_path)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((tmp_path / "images/1.jpg").read_bytes()[:300])
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    for arguments, message in (
        (("detect", tmp_path / "none.jpg"), "no such file"),
        (("detect", broken), "broken.jpg: the file is damaged"),
        (("detect", tmp_path / "empty"), "holds no image"),
        (("detect", tmp_path / "images", "--weights", broken), "--model"),
        (
            ("detect", tmp_path / "images", "--weights", tmp_path / "no.pth"),
            f"weights: no such file: {tmp_path}/no.pth",
        ),
        (
            ("detect", tmp_path / "images", "--format", "gif"),
            "--format must be one of text, json, jsonl, coco, got 'gif'",
        ),
        (("detect", tmp_path / "images", "--image-format", "gif"), "--image-format must be one of jpg, png, got 'gif'"),
        (("detect", tmp_path / "images", "--model", "nonsense"), "model must be one of"),
        (("detect", tmp_path / "images", "--device", "cuda"), "cuda"),
    ):
        if "--device" in arguments and torch.cuda.is_available():
            continue
        assert run(monkeypatch, *arguments, "--out", out) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1
        assert not out.exists()
    assert run(monkeypatch, "evaluate", "--annotations", tmp_path / "annotations.json") == 2
    for arguments, message in (
        (("detect", "--no-such-option"), "No such option: --no-such-option"),
        (("detect", "--score", 2), "'--score'"),
        (("convert", "a", "b"), "Missing option '--model'; see pyrcnn convert --help"),
        (("nonsense",), "No such command 'nonsense'; see pyrcnn --help"),
    ):
        capsys.readouterr()
        assert run(monkeypatch, *arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("pyrcnn: ")
        assert message in error
        assert len(error.strip().splitlines()) == 1


def test_alone_it_shows_its_help(monkeypatch, capsys) -> None:
    assert run(monkeypatch) in (0, 2)  # typer's choice
    shown = capsys.readouterr()
    assert "detect" in shown.out + shown.err


def test_settings_are_checked_against_their_fields() -> None:
    model, training = models.PRESETS["faster_rcnn_resnet50_fpn"], TrainConfig()
    given = ["roi.samples=256", "learning_rate=1", "min_size=480", "optimizer=sgd", "bf16=true", "roi.width=512"]
    assert settings.parse(given, model, training) == [
        {"roi": {"samples": 256, "width": 512}, "min_size": 480},
        {"learning_rate": 1.0, "optimizer": "sgd", "bf16": True},
    ]
    for bad, message in (("x=1", "no such setting"), ("roi=1", "one of its fields"), ("roi.x=1", "x must be one of"),
                         ("min_size=big", "must be int"), ("epochs", "key=value"),
                         ("seed.x=1", "has no fields")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            settings.parse([bad], model, training)
