"""Test the rules of the code that no other tool checks."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import pyrcnn
from pyrcnn import deploy
from pyrcnn.models.presets import PRESETS
from tests.cases import all_cases

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for folder in ("pyrcnn", "csrc", "include", "examples", "scripts", "tests", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".h", ".cuh", ".cpp", ".cu", ".sh"} and ROOT / "pyrcnn/include" not in path.parents
]
NATIVE = [path for path in SOURCES if path.is_relative_to(ROOT / "csrc")]
SCHEMAS = re.findall(r'm\.def\(\s*"(\w+)\(', (ROOT / "csrc/schema.cpp").read_text())

# The public names of pyrcnn.ops. Widening this list is a decision, so it is written here a second time.
DROP_IN = """nms batched_nms roi_align roi_pool RoIAlign RoIPool MultiScaleRoIAlign box_area box_iou generalized_box_iou
distance_box_iou complete_box_iou generalized_box_iou_loss distance_box_iou_loss complete_box_iou_loss box_convert
clip_boxes_to_image remove_small_boxes masks_to_boxes sigmoid_focal_loss FeaturePyramidNetwork LastLevelMaxPool
FrozenBatchNorm2d"""
OURS = """nms_padded decode_boxes encode_boxes grid_anchors decode_anchors generate_proposals roi_align_levels
roi_detections match_boxes crop_and_resize heatmap_peaks decode_centers match_keypoints draw_gaussians preprocess"""

# In optimized networks on CUDA, cuDNN runs these convolutions.
CPU_ALONE = {"_conv_chains", "_winograd_conv2d"}

# The most source files on one level of a folder. The exceptions have one file per operator.
MOST_FILES = 15
FILE_PER_SUBJECT = {"pyrcnn/ops", "tests/ops"}

TORCH = re.compile(r"(torch|ATen|c10)/")
MERGED_BY_LINKER = {"vector", "algorithm", "string", "memory", "functional"}
# The headers that common/math may include: no containers, and nothing of torch.
MATH = {"cmath", "cstdint", "cstring", "limits", "type_traits", "cuda_bf16.h", "cuda_fp16.h"}


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_a_file_has_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def folders() -> list[Path]:
    return sorted({path.parent for path in SOURCES})


@pytest.mark.parametrize("folder", folders(), ids=ids)
def test_a_folder_has_few_files(folder: Path) -> None:
    files = [path for path in SOURCES if path.parent == folder]
    assert len(files) <= MOST_FILES or ids(folder) in FILE_PER_SUBJECT


def includes(path: Path) -> list[str]:
    return re.findall(r'#include [<"](.+?)[>"]', path.read_text())


@pytest.mark.parametrize("path", NATIVE, ids=ids)
def test_native_floors(path: Path) -> None:
    names = includes(path)
    assert not [name for name in names if name.startswith(("ATen", "c10", "torch/extension", "torch/torch"))]
    if ids(path) != "csrc/python/module.cpp":
        assert not [name for name in names if name.startswith(("pybind11", "Python.h"))]
    if path.name.endswith("_kernel.cpp"):
        # Compiled once per instruction set: the linker must not merge code of one with another's.
        assert "PYRCNN_ISA" in path.read_text()
        bad = [name for name in names if TORCH.match(name) or name in MERGED_BY_LINKER]
        assert not bad, f"{path.name} must not include {bad}"


@pytest.mark.parametrize("path", [p for p in NATIVE if "csrc/common/" in p.as_posix()], ids=ids)
def test_floors_of_common(path: Path) -> None:
    """No folder includes a higher one, and neither ``math`` nor ``simd`` includes torch."""
    room, names = ids(path).split("/")[2], includes(path)
    rooms = {name.split("/")[1] for name in names if name.startswith("common/") and name.count("/") > 1}
    if room == "math":
        outside = {name for name in names if not name.startswith("common/math/") and not (path.parent / name).exists()}
        assert outside <= MATH
    elif room == "simd":
        assert not [name for name in names if TORCH.match(name) or name == "common/tensor.h"]
        assert rooms <= {"math", "simd"}
    elif room in {"cpu", "cuda"}:
        assert rooms <= {"math", "simd", room}


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


@pytest.fixture(scope="module")
def _all_wrappers() -> None:
    """Import the wrappers of the convolutions, which ``deploy`` holds; those of ``ops`` come with ``pyrcnn``."""
    for module in pkgutil.walk_packages(deploy.__path__, "pyrcnn.deploy."):
        importlib.import_module(module.name)


@pytest.mark.usefixtures("_all_wrappers")
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_native_op_is_complete(name: str) -> None:
    """Each operator has a schema, a fake kernel, a CPU kernel and, unless listed in CPU_ALONE, a CUDA kernel."""
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


FAMILY = re.compile(r"\b(CenterNet|FasterRCNN)(Config)?\b")
BACKBONES = {config.backbone for config in PRESETS.values()}
BACKBONES |= {re.split(r"[\d_]", name)[0] for name in BACKBONES}  # resnet50, and resnet
# This file maps the layers of other frameworks, with one table per backbone.
LAYER_TABLES = {"tensorflow_names.py"}


def names_a_backbone(*nodes: ast.expr) -> bool:
    return any(isinstance(n, ast.Constant) and n.value in BACKBONES for node in nodes for n in ast.walk(node))


def decides_by_family(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in {"isinstance", "issubclass"} and bool(FAMILY.search(ast.unparse(node.args[1])))
    if isinstance(node, ast.Compare):
        text = ast.unparse(node)
        return "type(" in text and bool(FAMILY.search(text))
    return isinstance(node, ast.MatchClass) and bool(FAMILY.search(ast.unparse(node.cls)))


def decides_by_backbone(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).endswith((".startswith", ".endswith")) and names_a_backbone(*node.args)
    return isinstance(node, ast.Compare) and names_a_backbone(node.left, *node.comparators)


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if re.match(r"(pyrcnn/(?!models/)|benchmarks/).*\.py$", ids(p))], ids=ids
)
def test_models_alone_know_their_families(path: Path) -> None:
    """Code outside ``models`` calls a model's methods and does not decide by its class or its backbone's name."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    found = [node for node in nodes if decides_by_family(node)]
    if path.name not in LAYER_TABLES:
        found += [node for node in nodes if decides_by_backbone(node)]
    assert not [f"line {node.lineno}: {ast.unparse(node)}" for node in found]


def text_files() -> list[Path]:
    """Return the text files of the project, without those that a build or a tool wrote."""
    parts = ("pyrcnn", "csrc", "tests", "benchmarks", "docs", ".ci")
    files = [*ROOT.glob("*"), *(path for part in parts for path in (ROOT / part).rglob("*"))]
    kinds = {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".cpp", ".cu", ".cuh", ".h", ".sh"}
    return [path for path in files if path.is_file() and (path.suffix in kinds or path.parent.name == ".ci")]


def test_nothing_is_left_to_do() -> None:
    words = re.compile(r"TODO|FIXME|XXX", re.ASCII)
    files = [path for path in text_files() if path != Path(__file__)]
    assert not [ids(path) for path in files if words.search(path.read_text(errors="replace"))]
