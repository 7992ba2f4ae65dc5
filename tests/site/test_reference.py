"""The reference names everything that is public, and public docstrings have what a reader needs."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from pyrcnn import ops
from scripts.site import dialect, docstrings_text, fields, links, names, operators, reference

PUBLIC = [(package, name) for package in names.PACKAGES for name in names.documented(package)]
NO_ERRORS = {  # functions that raise no error of ours, and classes of plain values
    "Detections", "InputError", "build_info", "LastLevelMaxPool", "FrozenBatchNorm2d", "Matches", "Peaks",
    "CenterNetConfig", "FasterRCNNConfig", "Network", "names", "unwrap", "CocoDataset", "Problem", "Report",
    "Transform", "aspect_groups", "collate", "flip_pairs", "EvaluationEvent", "Result", "StepEvent", "ClassScores",
    "Evaluation", "scores_keypoints", "fastest_dtype", "ImageError", "files_in", "suffixes",
}  # fmt: skip
# The tables of configurations have the fields of these, from the same source.
CONFIGURED = {cls.__name__ for cls in reference.CONFIGURATIONS}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return reference.pages()


@pytest.mark.parametrize("package", names.PACKAGES)
def test_every_public_name_is_in_the_reference(package: str, pages: dict[str, str]) -> None:
    page = pages[f"{package.rpartition('.')[2]}.md"]
    for name in names.documented(package):
        assert names.link(package, name) in page if package == "pyrcnn.ops" else names.block(package, name) in page
    for name in names.constants(package):
        row = re.search(rf"^\| `{name}` \| (.+) \| (.+) \|$", page, re.MULTILINE)
        assert row, f"{package}.{name} needs a comment that says what it is"


def test_every_operator_has_a_page() -> None:
    shown = [name for found in operators.pages().values() for name in found]
    assert sorted(shown) == sorted(ops.__all__)


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_docstrings(package: str, name: str) -> None:
    value = names.documented(package)[name]
    text = inspect.getdoc(value) or ""
    assert re.search(r"^Example::?$", text, re.MULTILINE), "an example is missing"
    assert re.search(r"^Raises:$", text, re.MULTILINE) or name in NO_ERRORS, "the errors are missing"
    assert "====" not in text, "a table of reStructuredText, which Markdown does not show"
    missing = [argument for argument in arguments(value) if not entry(argument).search(text)]
    assert not missing or name in CONFIGURED


def entry(argument: str) -> re.Pattern[str]:
    """The line of a docstring that explains an argument, alone or with others."""
    return re.compile(rf"^    (\w+, )*{argument}(, \w+)*:", re.MULTILINE)


def arguments(value: Any) -> list[str]:
    """The arguments of a function, and what a class is made from; not those of exceptions, protocols and data sets."""
    if inspect.isclass(value) and (getattr(value, "_is_protocol", False) or name_of(value) in MADE_BY_FUNCTIONS):
        return []
    if value is names.documented("pyrcnn")["InputError"]:
        return []
    inherited = {"args", "kwargs"}
    return [name for name in inspect.signature(value).parameters if not name.startswith("_") and name not in inherited]


MADE_BY_FUNCTIONS = {"pyrcnn.data.coco.CocoDataset", "pyrcnn.deploy.optimized.Optimized"}  # coco, optimize


def name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@pytest.mark.parametrize("cls", reference.CONFIGURATIONS)
def test_fields_have_a_meaning(cls: type) -> None:
    found = fields.fields(cls)
    assert [field.name for field in found] == list(inspect.signature(cls).parameters)
    assert not [field.name for field in found if not field.meaning]


def test_the_command_line_is_complete(pages: dict[str, str]) -> None:
    text = pages["command_line.md"]
    commands = ("detect", "evaluate", "train", "convert", "export", "benchmark", "models", "info", "data check",
                "data convert", "data split")  # fmt: skip
    assert all(f"\n## pyrcnn {name}\n" in text for name in commands)
    empty = [line for line in text.splitlines() if re.match(r"\| `.*\|  \|$", line)]
    assert not empty, "these options have no help"
    assert "| `--score SCORE` | `0.3` |" in text


def test_links_between_files_become_links_between_pages() -> None:
    text = "[a](docs/guides/export.md#speed) [b](csrc/README.md) [c](examples/sahi_model.py) [d](https://a.b) `x[0](y)`"
    assert links.rewrite(text, "contributing.md") == (
        "[a](guides/export.md#speed) [b](understanding/native_code.md) c (`examples/sahi_model.py`) [d](https://a.b) "
        "`x[0](y)`"
    )
    assert links.rewrite("[`examples/sahi_model.py`](../../examples/sahi_model.py)", "guides/hub.md") == (
        "`examples/sahi_model.py`"
    )


def test_lists_and_tables_are_those_of_github() -> None:
    text = "A:\n- b\n  c\n   - d\n\n     ```sh\n     e\n     ```\n\n1. f\n\n   g\n\nH\n\n"
    assert dialect.adapted(text) == (
        "A:\n\n- b\n  c\n    - d\n\n        ```sh\n        e\n        ```\n\n1. f\n\n    g\n\nH\n\n"
    )
    table, code = "| `a\\|b` | c\\|d |", "\n\n```\n- `e\\|f`\n  - g\n```"
    assert dialect.adapted(table + code) == "| `a|b` | c\\|d |" + code


def test_a_docstring_in_our_style_becomes_one_that_mkdocstrings_reads() -> None:
    text = "See :func:`nms`.\n\nArgs:\n    ys, xs: cells\n        of maps.\n\nExample::\n\n    ops.nms(boxes)"
    assert docstrings_text.adapted(text, "pyrcnn.ops.nms") == (
        "See [`nms`][pyrcnn.ops.nms.nms].\n\n"
        "Args:\n    ys: cells\n        of maps.\n    xs: cells\n        of maps.\n\n"
        "Examples:\n    ```python\n    ops.nms(boxes)\n    ```"
    )


def test_facts_come_from_the_cases() -> None:
    found = dict(operators.facts("encode_boxes"))
    assert found["Gradient"] == "to `boxes`, `anchors`; once"
    assert dict(operators.facts("roi_align"))["Gradient"] == "to `input`; twice; to the coordinates of RoIs; once"
    assert found["Runs as"] == "`torch.ops.pyrcnn.encode_boxes`, kernels for CPU and CUDA"
    assert "float16" in found["Dtypes"]
    assert dict(operators.facts("box_area"))["Runs as"].startswith("plain torch")


@pytest.mark.parametrize("name", [case for case in operators.cases() if case in ops.__all__])
def test_operators_with_kernels_have_figures(name: str) -> None:
    if operators.native(operators.cases()[name]) is not None and name not in {"encode_boxes", "grid_anchors",
                                                                              "decode_centers"}:  # fmt: skip
        assert re.search(rf"20\d\d-\d\d-\d\d, `pytest benchmarks/bench_ops.py -k {name}`", operators.speed(name))
