"""The house rules, as tests: what review would otherwise have to remember."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import torch

import pyrcnn
from tests.cases import all_cases

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for folder in ("pyrcnn", "csrc", "tests", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".h", ".cuh", ".cpp", ".cu", ".sh"}
]
NATIVE = [path for path in SOURCES if "csrc" in path.parts]
SCHEMAS = re.findall(r'm\.def\(\s*"(\w+)\(', (ROOT / "csrc/schema.cpp").read_text())

# The public names of pyrcnn.ops. Widening this list is a decision, so it is written here a second time.
DROP_IN = """nms batched_nms roi_align roi_pool RoIAlign RoIPool MultiScaleRoIAlign box_area box_iou generalized_box_iou
distance_box_iou complete_box_iou generalized_box_iou_loss distance_box_iou_loss complete_box_iou_loss box_convert
clip_boxes_to_image remove_small_boxes sigmoid_focal_loss FeaturePyramidNetwork LastLevelMaxPool FrozenBatchNorm2d"""
OURS = """nms_padded decode_boxes encode_boxes grid_anchors decode_anchors generate_proposals roi_align_levels
roi_detections match_boxes crop_and_resize heatmap_peaks decode_centers match_keypoints draw_gaussians preprocess"""

CPU_ALONE = {
    "_conv_chains",
    "_tile_conv2d",
    "_winograd_conv2d",
}  # optimized networks on CUDA leave convolutions to cuDNN


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", NATIVE, ids=ids)
def test_native_floors(path: Path) -> None:
    text = path.read_text()
    includes = re.findall(r'#include [<"](.+?)[>"]', text)
    assert not [i for i in includes if i.startswith(("ATen", "c10", "torch/extension", "torch/torch"))]
    assert "Python.h" not in includes
    assert path.name == "module.cpp" or not [i for i in includes if i.startswith("pybind11")]
    if path.name.endswith("_kernel.cpp"):
        # Compiled once per instruction set: nothing in it may be left to the linker to merge.
        assert "PYRCNN_ISA" in text
        bad = [i for i in includes if "torch" in i or i in {"vector", "algorithm", "string", "memory", "functional"}]
        assert not bad, f"{path.name} must not include {bad}"


def test_public_names_of_ops() -> None:
    missing = set((DROP_IN + " " + OURS).split()) - set(dir(pyrcnn.ops))
    assert not missing
    assert not [name for name in pyrcnn.ops.__all__ if not hasattr(pyrcnn.ops, name)]


@pytest.mark.parametrize("name", pyrcnn.ops.__all__)
def test_public_names_are_documented(name: str) -> None:
    value = getattr(pyrcnn.ops, name)
    if callable(value):
        text = inspect.getdoc(value) or ""
        assert len(text) > 60, f"{name} needs a docstring that tells shapes and units"


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_native_op_is_complete(name: str) -> None:
    """A schema, a fake kernel, a CPU and, but for those that the CPU alone has, a CUDA kernel."""
    overload = getattr(torch.ops.pyrcnn, name).default
    assert "=" not in str(overload._schema).partition("->")[0], "defaults live in Python"
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"pyrcnn::{name}", "CPU")
    assert torch._library.simple_registry.singleton.find(f"pyrcnn::{name}").fake_impl.kernel is not None
    if name in CPU_ALONE:
        return
    cuda = [p for p in NATIVE if p.suffix == ".cu" and f'm.impl("{name}"' in p.read_text()]
    assert len(cuda) == 1, f"{name} needs exactly one CUDA registration"


def test_every_op_is_in_the_case_table() -> None:
    called = {case.name for case in all_cases()}
    assert not [name for name in OURS.split() if name not in called]


def modules() -> list[Path]:
    return [path for path in SOURCES if "pyrcnn" in path.relative_to(ROOT).parts[0]]


@pytest.mark.parametrize("path", modules(), ids=ids)
def test_public_functions_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text())
    public = [
        node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    assert not [node.name for node in public if ast.get_docstring(node) is None]
    assert not tree.body or ast.get_docstring(tree) is not None


def test_the_project_speaks_of_itself_alone() -> None:
    files = [p for p in ROOT.rglob("*") if p.suffix in {".py", ".md", ".toml", ".txt", ".cpp", ".cu", ".h", ".sh"}]
    tracked = [p for p in files if not {"build", ".git", ".venv"} & set(p.relative_to(ROOT).parts)]
    words = re.compile(r"TODO|FIXME|XXX", re.ASCII)
    assert not [ids(p) for p in tracked if p != Path(__file__) and words.search(p.read_text(errors="replace"))]
