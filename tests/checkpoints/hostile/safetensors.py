"""Safetensors files whose header lies, and files of ours whose metadata are wrong."""

from __future__ import annotations

import functools
import json
import struct
from pathlib import Path
from typing import Any

from pyrcnn import models
from tests.checkpoints.hostile import hostile, model, several


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(begin: int = 0, end: int = 16, shape: tuple[int, ...] = (4,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def header(**entries: Any) -> bytes:
    return json.dumps(entries).encode()


DATA = bytes(16)
several(
    "safetensors",
    {
        "empty": b"",
        "of_seven_bytes": b"1234567",
        "header_of_an_exabyte": raw(b"{}", length=1 << 60),
        "header_past_the_end": raw(b"{}", length=10_000_000),
        "header_of_negative_size": raw(b"{}", length=(1 << 64) - 1),
        "header_too_long": raw(b"{" + b" " * (26 << 20) + b"}"),
        "overlap": raw(header(**{f"backbone.{i}": entry() for i in range(1000)}), DATA),
        "negative_offset": raw(header(a=entry(-16, 0)), DATA),
        "reversed_offsets": raw(header(a=entry(16, 0)), DATA),
        "offset_past_the_end": raw(header(a=entry(0, 1 << 40, (1 << 38,))), DATA),
        "offset_of_100_digits": raw(header(a=entry(0, 10**100)), DATA),
        "shape_of_another_size": raw(header(a=entry(0, 16, (5,))), DATA),
        "shape_that_overflows": raw(header(a=entry(0, 16, (1 << 40, 1 << 40))), DATA),
        "unknown_dtype": raw(header(a=entry(0, 16, (4,), "\x1b[31mF31\n")), DATA),
        "hole": raw(header(a=entry(0, 4, (1,)), b=entry(12, 16, (1,))), DATA),
        "one_name_twice": raw(b'{"a":' + header(**entry(0, 16)) + b',"a":' + header(**entry(0, 4, (1,))) + b"}", DATA),
        "deep": raw(b'{"a":' * 500_000 + b"1" + b"}" * 500_000, DATA),
        "no_json": raw(b"\xff\xfe{", DATA),
        "a_list": raw(b"[]", DATA),
        "metadata_of_numbers": raw(header(__metadata__={"a": 1}), DATA),
        "many_metadata": raw(header(__metadata__={f"key{i}": "x" for i in range(100_000)})),
        "our_metadata_deep": raw(header(__metadata__={"pyrcnn": "[" * 500_000})),
        "our_metadata_without_end": raw(header(__metadata__={"pyrcnn": '{"family": "Cent'})),
        "our_metadata_of_many_digits": raw(header(__metadata__={"pyrcnn": "7" * 1_000_000})),
        "our_metadata_a_list": raw(header(__metadata__={"pyrcnn": "[1]"})),
        "our_metadata_a_text": raw(header(__metadata__={"pyrcnn": '"CenterNet"'})),
    },
    "weights.safetensors",
)


@functools.lru_cache
def right() -> dict[str, Any]:
    """The metadata of a small model."""
    return json.loads(models.metadata(model())["pyrcnn"])


def ours(folder: Path, **changes: Any) -> Path:
    """A file of ours with one tensor and these changes in its metadata; None leaves an entry out."""
    entries = {key: value for key, value in (right() | changes).items() if value is not None}
    content = header(__metadata__={"pyrcnn": json.dumps(entries)}, w=entry())
    (folder / "weights.safetensors").write_bytes(raw(content, DATA))
    return folder / "weights.safetensors"


ENTRIES: dict[str, dict[str, Any]] = {
    "as_they_are_without_weights": {},
    "without_family": {"family": None},
    "without_config": {"config": None},
    "without_classes": {"classes": None},
    "family_of_another_program": {"family": "\x1b[31mEvil\n"},
    "family_a_number": {"family": 3},
    "config_a_list": {"config": []},
    "config_a_text": {"config": "x" * 1_000_000},
    "classes_a_text": {"classes": "ab"},
    "classes_of_numbers": {"classes": [1, 2]},
    "classes_too_few": {"classes": ["a"]},
    "ids_of_floats": {"category_ids": [1.5, None]},
    "ids_too_many": {"category_ids": [1] * 1000},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "an_unknown_field": {"\x1b[31mevil\n": 1},
    "a_trillion_classes": {"num_classes": 10**12},
    "a_million_classes": {"num_classes": 1_000_000},
    "classes_as_text": {"num_classes": "2"},
    "classes_true": {"num_classes": True},
    "negative_classes": {"num_classes": -1},
    "no_number": {"norm_eps": float("nan")},
    "a_number_of_4000_digits": {"input_size": 10**4000},
    "an_unknown_backbone": {"backbone": "../../etc/passwd"},
    "a_backbone_of_a_megabyte": {"backbone": "x" * 1_000_000},
    "a_backbone_that_is_a_list": {"backbone": ["mobilenet_v2"]},
    "widths_of_a_million": {"neck_widths": [1_000_000] * 3},
    "many_widths": {"neck_widths": [1] * 100_000},
    "widths_in_lists": {"neck_widths": [[[1]]]},
}
FASTER: dict[str, dict[str, Any]] = {
    "a_million_layers": {"roi": {"convs": 1_000_000}},
    "a_million_units": {"roi": {"width": 1_000_000, "fcs": 1000}},
    "a_million_channels": {"fpn_channels": 1_000_000},
    "rpn_a_list": {"rpn": []},
    "an_unknown_field_below": {"rpn": {"x": 1}},
    "pairs_of_three": {"rpn": {"before_nms": [1, 2, 3]}},
    "a_million_sizes": {"rpn": {"sizes": [[1.0] * 1000] * 1000}},
}

for _name, _changes in ENTRIES.items():
    hostile_ours = functools.partial(ours, **_changes)
    hostile_ours.__name__ = f"ours_{_name}"  # type: ignore[attr-defined]
    hostile(hostile_ours)
for _name, _config in CONFIGS.items():
    hostile_ours = functools.partial(
        lambda folder, config: ours(folder, config=right()["config"] | config), config=_config
    )
    hostile_ours.__name__ = f"ours_with_{_name}"  # type: ignore[attr-defined]
    hostile(hostile_ours)
for _name, _config in FASTER.items():
    hostile_ours = functools.partial(
        lambda folder, config: ours(
            folder, family="FasterRCNN", config={"backbone": "mobilenet_v2", "num_classes": 2} | config
        ),
        config=_config,
    )
    hostile_ours.__name__ = f"ours_with_{_name}"  # type: ignore[attr-defined]
    hostile(hostile_ours)
