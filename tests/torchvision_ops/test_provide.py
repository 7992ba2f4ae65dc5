"""provide_torchvision() beside torchvisions that differ in what works, each in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import python

INSTALLED = importlib.util.find_spec("torchvision") is not None

# A torchvision that asks extension.py whether there are operators, as the real ones do while they are imported.
PACKAGE = {
    "__init__.py": "import torchvision.extension, torchvision._meta_registrations",
    "extension.py": "def _has_ops():\n    return False\n",
    "_meta_registrations.py": """
import torch, torchvision.extension

@torch.library.register_fake("torchvision::nms")
def _(dets, scores, iou_threshold):
    return dets.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.long)

if torchvision.extension._has_ops():
    lib = torch.library.Library("torchvision", "IMPL", "Meta")
    lib.impl("roi_align", lambda x, rois, scale, h, w, ratio, aligned: x.new_empty((len(rois), x.shape[1], h, w)))
""",
}
# One that defines the operators itself, all wrongly: its kernels can be told from ours.
WORKING = {
    "__init__.py": "import torchvision.extension",
    "extension.py": """
import torch

lib = torch.library.Library("torchvision", "FRAGMENT")
lib.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
lib.impl("nms", lambda dets, scores, threshold: dets.new_zeros(0, dtype=torch.long), "CPU")
""",
}
CALL = """
import pyrcnn, torch
boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]])
def kept(): return torch.ops.torchvision.nms(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.5).tolist()
"""


def run(code: str, folder: Path | None = None) -> list[str]:
    """Return the lines that ``code`` prints; it prints nothing to stderr."""
    command, cwd = python(CALL + code)
    path = os.pathsep.join(filter(None, [str(folder) if folder else "", os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(command, cwd=cwd, env={**os.environ, "PYTHONPATH": path}, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def package(folder: Path, files: dict[str, str]) -> Path:
    (folder / "torchvision").mkdir()
    for name, text in files.items():
        (folder / "torchvision" / name).write_text(text)
    return folder


@pytest.mark.parametrize("torchvision", ["absent", "installed"])
def test_operators(torchvision: str) -> None:
    """The tests in operators.py pass in a process of their own."""
    if torchvision == "installed" and (not INSTALLED or own_library_loads()):
        pytest.skip("needs a torchvision whose library does not load, as PyPI's beside a CPU-only torch")
    file = Path(__file__).with_name("operators.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(file)]
    environment = {**os.environ, "PYRCNN_TEST_PROVIDE": torchvision}
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=file.parents[2], env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr


def own_library_loads() -> bool:
    return run("print(pyrcnn.provide_torchvision())") == ["left"]


def test_before_the_import(tmp_path: Path) -> None:
    code = """
print(pyrcnn.provide_torchvision(), kept())
import torchvision
print(torchvision.extension._has_ops(), kept())
print(torch.ops.torchvision.roi_align(torch.ones(1, 2, 8, 8, device="meta"), torch.ones(3, 5, device="meta"), 1.0, 2, 2,
      1, False).shape)
x = torch.ones(1, 2, 8, 8, requires_grad=True)  # this torchvision registers no gradients, like 0.25: C++ does
torch.ops.torchvision.roi_align(x, torch.tensor([[0, 0, 0, 4, 4.0]]), 1.0, 2, 2, 1, False).sum().backward()
print(x.grad.sum().item())
"""
    assert run(code, package(tmp_path, PACKAGE)) == [
        "defined [1, 2]", "True [1, 2]", "torch.Size([3, 2, 2, 2])", "8.0",
    ]  # fmt: skip


def test_after_an_import_that_failed(tmp_path: Path) -> None:
    code = """
try: import torchvision
except RuntimeError as error: print(error)
print(pyrcnn.provide_torchvision(), kept())
import torchvision
print(torchvision.extension._has_ops())
"""
    lines = run(code, package(tmp_path, PACKAGE))
    assert lines == ["operator torchvision::nms does not exist", "defined [1, 2]", "True"]


def test_after_an_import_without_operators(tmp_path: Path) -> None:
    """Versions before the fake kernel of nms can be imported without operators."""
    guarded = PACKAGE["_meta_registrations.py"].replace("@torch.library", "0 and torch.library")
    folder = package(tmp_path, {**PACKAGE, "_meta_registrations.py": guarded.replace("def _(dets", "def _nms(dets")})
    code = """
import torchvision
from torchvision.extension import _has_ops
module = torchvision
print(pyrcnn.provide_torchvision(), kept(), torchvision.extension._has_ops(), module is torchvision)
"""
    assert run(code, folder) == ["defined [1, 2] True True"]


def test_a_library_that_works_is_left_unless_overridden(tmp_path: Path) -> None:
    code = """
import torchvision
print(pyrcnn.provide_torchvision(), kept())
print(pyrcnn.provide_torchvision(override=True), kept())
print(pyrcnn.provide_torchvision(), pyrcnn.provide_torchvision(override=True), kept())
"""
    lines = run(code, package(tmp_path, WORKING))
    assert lines == ["left []", "overridden [1, 2]", "overridden overridden [1, 2]"]


def test_gradients_that_ask_whether_they_must_be_deterministic() -> None:
    """They are registered for CUDA; here, in the CPU's place, where all gradients are deterministic."""
    code = """
import sys
sys.modules["torchvision"] = None
pyrcnn.provide_torchvision()
from pyrcnn import torchvision_ops
x, rois = torch.rand(2, 3, 8, 9, requires_grad=True), torch.tensor([[0, 0, 0, 4, 4.0], [1, 2, 2, 7, 6]])
tv = torch.ops.torchvision
def grads():
    results = tv.roi_align(x, rois, 0.5, 2, 3, 2, False), tv.roi_pool(x, rois, 0.5, 2, 3)[0]
    return [torch.autograd.grad(result.square().sum(), x)[0] for result in results]
want = grads()
torchvision_ops._choose_deterministic_gradients("CPU")
for deterministic in (False, True):
    torch.use_deterministic_algorithms(deterministic)
    asked = []
    torchvision_ops.torch.are_deterministic_algorithms_enabled = lambda d=deterministic: asked.append(d) or d
    print([torch.equal(a, b) for a, b in zip(grads(), want)], asked[-2:])
"""
    assert run(code) == ["[True, True] [False, False]", "[True, True] [True, True]"]


def test_operators_defined_by_something_else() -> None:
    """A schema without a kernel is a common workaround for torchvision's failing import."""
    code = """
import sys
sys.modules["torchvision"] = None
torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
try: pyrcnn.provide_torchvision()
except RuntimeError as error: print(error)
"""
    assert run(code) == [
        "torchvision::nms has been defined by something other than torchvision's library; "
        "call provide_torchvision before it"
    ]


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs torchvision")
def test_schemas_and_detections_are_those_of_torchvisions_library() -> None:
    """benchmarks/peers.py lets torchvision's CPU kernels load. Schemas are compared letter by letter."""
    show = """
import sys
def schemas(): return sorted(str(s) for s in torch._C._jit_get_all_schemas() if s.name.startswith("torchvision::"))
"""
    theirs = """
from benchmarks import peers
torchvision = peers.torchvision()
if torchvision is None: sys.exit("torchvision's kernels do not load")
print(schemas())
torch.manual_seed(0)
model = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
    weights=None, weights_backbone=None, box_score_thresh=0.0
).eval()
images = [torch.rand(3, 200, 300), torch.rand(3, 320, 240)]
want = model(images)
print(pyrcnn.provide_torchvision(override=True))
for a, b in zip(model(images), want):
    for name in b: torch.testing.assert_close(a[name], b[name])
print(sum(len(d["boxes"]) for d in want) > 0)
"""
    lines = [line for line in run(show + theirs) if line]
    assert lines[1:] == ["overridden", "True"]
    ours = run(show + 'sys.modules["torchvision"] = None; pyrcnn.provide_torchvision(); print(schemas())')
    assert ours == lines[:1]
