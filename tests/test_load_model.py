"""``pyrcnn.load_model``: every way to a model with weights, and what it says when there is none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

import pyrcnn
from pyrcnn import InputError, checkpoints, cli, models
from pyrcnn.checkpoints import bundled
from tests.checkpoints import test_torchvision
from tests.conftest import python

NAME = "centernet_mobilenet_v2_fpn_512"


@pytest.fixture(scope="module")
def small() -> torch.nn.Module:
    torch.manual_seed(0)
    model = models.build(NAME, num_classes=2, input_size=64).eval()
    model.classes, model.category_ids = ["cell", "disc"], [3, 5]
    return model


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_bundled_weights_detect_cells() -> None:
    model = pyrcnn.load_model(NAME)
    assert not model.training
    with torch.inference_mode():
        found = model(bundled.images()[:1])[0]
    sure = found[found.scores > 0.3]
    assert len(sure) > 10
    assert model.classes[int(sure.labels[0])] in ("RBC", "WBC", "Platelets")
    assert type(pyrcnn.load_model()).__name__ == "FasterRCNN"


def test_changes_reach_the_configuration(small: torch.nn.Module, tmp_path: Path) -> None:
    assert pyrcnn.load_model(NAME, max_detections=3).config.max_detections == 3
    checkpoints.save(small, tmp_path / "m.safetensors")
    assert pyrcnn.load_model(tmp_path / "m.safetensors", max_detections=3).config.max_detections == 3
    with pytest.raises(InputError, match="does not fit its own configuration with num_classes=7"):
        pyrcnn.load_model(tmp_path / "m.safetensors", num_classes=7)


def test_a_file_of_ours_needs_no_name(small: torch.nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    checkpoints.save(small, file)
    for model in (
        pyrcnn.load_model(file),
        pyrcnn.load_model(str(file)),
        pyrcnn.load_model(weights=file),
        pyrcnn.load_model(NAME, file, input_size=64),
    ):
        assert same(model, small)
        assert (model.classes, model.category_ids, model.config) == (["cell", "disc"], [3, 5], small.config)
        assert not model.training


def test_a_state_dict_fills_a_named_model() -> None:
    model = test_torchvision.build("faster_rcnn_resnet50_fpn", **test_torchvision.SMALL)
    state = test_torchvision.torchvisions(model)
    changes = {name: value for name, value in test_torchvision.SMALL.items() if name != "num_classes"}
    filled = pyrcnn.load_model("faster_rcnn_resnet50_fpn", state, **changes)
    assert filled.config.num_classes == test_torchvision.SMALL["num_classes"]
    assert test_torchvision.same(filled, model)
    with pytest.raises(InputError, match="name_or_file must be the name of a model if weights is a dict"):
        pyrcnn.load_model(weights=state)


def test_what_is_missing_is_named(small: torch.nn.Module, tmp_path: Path) -> None:
    none = tmp_path / "none.safetensors"
    other = tmp_path / "m.pth"
    torch.save(small.state_dict(), other)
    checkpoints.save(small, tmp_path / "m.safetensors")
    for arguments, message in (
        ((NAME, none), f"weights: no such file: {none}"),
        ((None, none), f"weights: no such file: {none}"),
        ((None, tmp_path / "none.pth"), "weights: no such file: "),
        ((none,), f"name_or_file: no such file: {none}"),
        (("nonsense",), "name_or_file must be a file or one of centernet_hg104_512, "),
        ((None, other), "do not say which model they belong to"),
        ((other,), "does not say which model it holds"),
        ((tmp_path / "m.safetensors", other), "weights must be left out"),
        (("faster_rcnn_resnet50_c4",), "has no bundled weights (bundled: centernet_mobilenet_v2_fpn_512, "),
        ((None, "zoo"), "weights 'zoo' needs the name of a model"),
        (("faster_rcnn_vgg16", "zoo"), "has no published weights"),
        ((NAME, "bundled", "abacus"), "device must be cpu or cuda, got 'abacus'"),
    ):
        with pytest.raises(InputError) as error:
            pyrcnn.load_model(*arguments)
        assert message in str(error.value)


def test_the_command_line_opens_models_by_it(monkeypatch, capsys, tmp_path: Path) -> None:
    given = {}

    def load_model(*arguments: object, **keywords: object) -> None:
        given["arguments"] = arguments
        raise InputError("name_or_file: enough")

    monkeypatch.setattr("pyrcnn.commands.common.load_model", load_model)
    monkeypatch.setattr("sys.argv", ["pyrcnn", "detect", "--model", NAME, "--weights", "w.pth", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        cli.main()
    assert given["arguments"] == (NAME, "w.pth", "cpu")
    assert "enough" in capsys.readouterr().err


def in_its_own_process(code: str, *arguments: object) -> str:
    command, folder = python(code, *arguments)
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True).stdout.strip()


@pytest.mark.parametrize("imports", ["import torch, pyrcnn", "import pyrcnn, torch"])
def test_importing_registers_the_operators(imports: str) -> None:
    """Programs that torch.export saved need no more than the import."""
    assert in_its_own_process(f"{imports}\nprint(torch.ops.pyrcnn.nms)") == "pyrcnn.nms"


def test_importing_is_light() -> None:
    code = (
        "import pyrcnn\nprint([m for m in ('pyrcnn.models', 'pyrcnn.checkpoints', 'PIL', 'typer') if m in sys.modules])"
    )
    assert in_its_own_process(code) == "[]"
    assert in_its_own_process("import pyrcnn\nprint(pyrcnn.Detections.__name__, 'load_model' in dir(pyrcnn))") == (
        "Detections True"
    )
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pyrcnn.nonsense


@pytest.mark.parametrize(
    ("module", "new"),
    [("pyrcnn.checkpoints.embedded", "use pyrcnn.load_model"), ("pyrcnn.data.pictures", "use pyrcnn.images")],
)
def test_old_modules_warn(module: str, new: str) -> None:
    code = (
        "import warnings\nwarnings.simplefilter('error')\n"
        f"try:\n    import {module}\nexcept DeprecationWarning as w:\n    print(w)"
    )
    assert new in in_its_own_process(code)


@pytest.mark.filterwarnings("ignore:pyrcnn")
def test_old_modules_work() -> None:
    from pyrcnn.checkpoints import embedded
    from pyrcnn.data import pictures

    with torch.inference_mode():
        found = embedded.open_model(None, None, "cpu")([pictures.read(embedded.pictures()[0])])[0]
    assert len(found) > 0
    assert embedded.open_model(None, embedded.weights()[embedded.DEFAULT]).classes == ["RBC", "WBC", "Platelets"]
