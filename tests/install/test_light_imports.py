"""Operators and models need torch and NumPy alone; a missing package is one line that names it; start-up is quick."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints.bundle_writer import write
from tests.conftest import python

BLOCK = """
import sys
BLOCKED = set(sys.argv[1].split(","))
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""
OPTIONAL = "typer,click,rich,pycocotools,faster_coco_eval,google_crc32c,safetensors,PIL,yaml,msgspec,jinja2,matplotlib"
OPS = """
import torch, pyrcnn.ops
boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]])
print(pyrcnn.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist())
"""
MODELS = """
import torch, pyrcnn.ops, pyrcnn.models
from pyrcnn import checkpoints, deploy, inference
torch.manual_seed(0)
small = {"min_size": 64, "max_size": 96, "fpn_channels": 16, "top": False, "roi": {"width": 16}}
image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
for name, changes in (("centernet_mobilenet_v2_fpn_512", {"input_size": 64}), ("faster_rcnn_mobilenet_v2_fpn", small)):
    model = pyrcnn.models.build(name, num_classes=2, **changes).eval()
    found = [runner([image, image.numpy().transpose(1, 2, 0)]) for runner in (model, deploy.optimize(model))]
    assert [len(d) for d in found[0]] == [len(d) for d in found[1]]
    losses = model([image], [pyrcnn.Targets(torch.tensor([[5.0, 5, 40, 40]]), torch.tensor([1]))])
    print(name, all(torch.isfinite(loss) for loss in losses.values()))
"""
MESSAGES = """
import importlib, json, torch, pyrcnn
from pyrcnn import checkpoints, images, models
from pyrcnn.commands import terminal
folder, results = sys.argv[2], {}
def message(name, call):
    try:
        call()
        results[name] = None
    except pyrcnn.InputError as error:
        results[name] = str(error)
model = models.build("centernet_mobilenet_v2_fpn_512", num_classes=2, input_size=64).eval()
message("save", lambda: checkpoints.save(model, folder + "/new.safetensors"))
message("load", lambda: models.load(folder + "/m.safetensors"))
message("bundled", lambda: pyrcnn.load_model())
message("tensorflow", lambda: checkpoints.load(model, folder + "/ckpt"))
message("path", lambda: model([folder + "/a.jpg"]))
message("bytes", lambda: model([b"a"]))
message("read", lambda: images.read("a.jpg"))
for name in ("images.draw", "data", "images.files"):
    message(name, lambda: importlib.import_module("pyrcnn." + name))
class Terminal:
    def isatty(self):
        return True
def bar():
    sys.stderr, kept = Terminal(), sys.stderr
    try:
        with terminal.bar("x", 2):
            pass
    finally:
        sys.stderr = kept
message("bar", bar)
BLOCKED -= {"PIL", "msgspec"}
from pyrcnn import data, evaluate
from pyrcnn.data.formats.yolo import read_yaml
from pyrcnn.evaluate import plots
from pyrcnn.train import progress
from pyrcnn.train.run_folder import curves
from tests.detector import dataset
from pathlib import Path
found = dataset(Path(folder))
message("coco", lambda: evaluate.coco([{"image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 9], "score": 0.5}], found))
message("yaml", lambda: read_yaml(Path(folder, "data.yaml")))
message("training", lambda: progress.Log(None, 1, 0))
message("curves", lambda: curves.draw(Path(folder), Path(folder)))
message("plots", lambda: plots._figure("x", 1, 1).__enter__())
print(json.dumps(results))
"""


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command, folder = python(BLOCK + code, *arguments)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_operators_need_torch_alone() -> None:
    ran = run(OPS, f"{OPTIONAL},numpy")
    assert ran.stdout == "[0, 2]\n", ran.stderr


def test_models_run_without_the_optional_packages() -> None:
    ran = run(MODELS, OPTIONAL)
    assert ran.stdout.splitlines() == ["centernet_mobilenet_v2_fpn_512 True", "faster_rcnn_mobilenet_v2_fpn True"], (
        ran.stderr
    )


def test_a_missing_package_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(bytes(100))
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "data.yaml").write_text("names: [a]")
    write(tmp_path / "ckpt", {"a": np.zeros(3, np.float32)}, {"a": "a"})
    ran = run(MESSAGES, OPTIONAL, tmp_path)
    assert ran.returncode == 0, ran.stderr
    images, safetensors = (
        "reading images needs pillow: pip install pillow",
        "needs safetensors: pip install safetensors",
    )
    results = json.loads(ran.stdout)
    assert results.pop("bundled").endswith(f".safetensors {safetensors}")
    assert results == {
        "save": f"checkpoints.save {safetensors}",
        "load": f"reading {tmp_path / 'm.safetensors'} {safetensors}",
        "tensorflow": "reading TensorFlow checkpoints needs google-crc32c: pip install google-crc32c",
        "path": images,
        "bytes": images,
        "read": images,
        "images.files": images,
        "data": images,
        "images.draw": "drawing needs pillow: pip install pillow",
        "bar": "showing progress needs rich: pip install rich",
        "coco": "scoring by COCO's rules needs pycocotools: pip install pycocotools",
        "yaml": f"reading {tmp_path / 'data.yaml'} needs pyyaml: pip install pyyaml",
        "training": "showing the progress of a training needs rich: pip install rich",
        "curves": "drawing curves needs matplotlib: pip install matplotlib",
        "plots": "drawing curves needs matplotlib: pip install matplotlib",
    }
    assert not (tmp_path / "new.safetensors").exists()


def test_the_command_line_without_typer_is_one_line() -> None:
    ran = run("from pyrcnn.cli import main; main()", "typer")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "pyrcnn: the command line needs typer: pip install typer\n"


def test_a_package_that_is_broken_is_not_called_missing() -> None:
    from pyrcnn import InputError
    from pyrcnn.errors import needing

    message = r"^x needs json: pip install json \(importing json failed: .*nothing"
    with pytest.raises(InputError, match=message), needing("json", "x"):
        from json import nothing  # noqa: F401
