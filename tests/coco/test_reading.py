"""Annotation files are read in blocks, into arrays: with the result that Python's ``json`` and lists would give."""

from __future__ import annotations

import copy
import json
import random
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

from pyrcnn import InputError, data
from pyrcnn.data import json_files
from pyrcnn.data.annotations import AnnotationFile
from pyrcnn.data.report import KEPT
from tests.fuzz import annotations as fuzz

from .files import content, opened
from .test_keypoints import poses


def outcome(source: Any) -> Any:
    """Return everything that a file says, or why it was refused."""
    report = data.Report("the file")
    try:
        found = AnnotationFile(source, report, "annotations")
    except InputError as error:
        return str(error)
    fields = {key: value.tolist() for key, value in vars(found.table).items()}
    names = [found.name_of(row) for row in range(len(found.table.boxes))]
    return fields, names, found.categories, list(found.images), str(report)


def expected(text: bytes) -> Any:
    try:
        return outcome(json.loads(text))
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        return str(error).partition(": value has")[0][:200]  # how many digits, of those that were read


def many() -> dict[str, Any]:
    """Return a file with entries of all kinds, in an order of lists in which the images come last."""
    truth, _ = fuzz.valid()
    annotations = [copy.deepcopy(a) for _ in range(6) for a in truth["annotations"]]
    for number, annotation in enumerate(annotations):
        annotation["id"] = number
    return {"info": {"a": [1.5]}, "annotations": annotations, "categories": truth["categories"],
            "images": truth["images"]}  # fmt: skip


@pytest.mark.parametrize("block", [80, 1500, 1 << 20])
def test_blocks_of_any_size_read_what_python_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(json_files, "BLOCK", block)
    file = tmp_path / "a.json"
    read = 0
    for seed in range(120):
        rng = random.Random(seed)
        text = fuzz.mutated(many(), rng) if seed else json.dumps(many()).encode()
        file.write_bytes(text)
        wanted, got = expected(text), outcome(file)
        if isinstance(wanted, str):
            assert isinstance(got, str), (seed, wanted, got)
            assert wanted in got, seed
        else:
            assert got == wanted, seed
            read += 1
    assert 60 < read < 120


def test_runs_of_usual_entries_are_not_read_by_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text(json.dumps(many()))
    monkeypatch.setattr(json_files, "BLOCK", 3000)
    kinds = {"annotations": data.annotations.Annotation, "images": None}
    batches = [e for e in json_files.events(tmp_path / "a.json", "a", kinds) if isinstance(e, json_files.Batch)]
    typed = sum(len(batch.typed or ()) for batch in batches if batch.key == "annotations")
    assert typed > 0.5 * len(many()["annotations"])


ONE = '{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12}'


@pytest.mark.parametrize(
    ("change", "text"),
    [("bbox", "[1, 2, 3, 1e999]"), ("bbox", "[1, 2, 3, 1e30]"), ("bbox", "[1, 2, 3, 0]"), ("bbox", "[1, 2, -3, 4]"),
     ("bbox", "[NaN, 2, 3, 4]"), ("area", "0"), ("area", "-1"), ("area", "1e999"), ("area", "null"), ("iscrowd", "2"),
     ("iscrowd", "true"), ("image_id", "9223372036854775808"), ("id", "9223372036854775808"), ("id", "-1"),
     ("id", "1" + "0" * 40), ("id", '"x\\ud800"'), ("segmentation", "[[0, 0, 4, 0, 4, 4]]"),
     ("segmentation", "[[NaN]]"),
     ("keypoints", "[1, 1, 2]"), ("keypoints", "[1, 1, 2, 3]"), ("keypoints", "[1, 1, 0]"),
     ("keypoints", "[1e30, 1, 1]"),
     ("keypoints", "[1, 1, 2, 5, 5, 2]"), ("keypoints", "[NaN, 1, 2]"),
     ("attributes", '[{"a": 1}, {"a": 2}, {"b": 3}]'),
     ("attributes", '"}, {"'), ("attributes", "[[[1.5e-3]]]")],
)  # fmt: skip
def test_one_odd_entry_among_usual_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, text: str
) -> None:
    odd = ONE.replace('"area": 12', f'"area": 12, "{change}": {text}')
    entries = [ONE.replace('"id": 1', f'"id": {i}') for i in range(60)]
    entries[3] = entries[20] = odd
    entries += [odd] * 5
    file = tmp_path / "a.json"
    file.write_text('{"images": [{"id": 1, "file_name": "a"}], "categories": [{"id": 1}], "annotations": ['
                    + ",\n  ".join(entries) + "]}")  # fmt: skip
    wanted = expected(file.read_bytes())
    assert not isinstance(wanted, str)
    for block in (500, 2500, 1 << 20):
        monkeypatch.setattr(json_files, "BLOCK", block)
        assert outcome(file) == wanted


@pytest.mark.parametrize("area", ["", '"area": null, ', '"area": 0, '])
@pytest.mark.parametrize("drawn", [True, False])
def test_areas_are_those_of_segmentations_in_runs_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, area: str, drawn: bool
) -> None:
    segmentation = "[[0, 0, 4, 0, 4, 4]]" if drawn else "[]"
    entry = ONE.replace('"area": 12', f'{area}"segmentation": {segmentation}')
    file = tmp_path / "a.json"
    file.write_text('{"images": [{"id": 1, "file_name": "a"}], "categories": [{"id": 1}], "annotations": ['
                    + ", ".join([entry] * 60) + "]}")  # fmt: skip
    monkeypatch.setattr(json_files, "BLOCK", 2500)
    fields, *_ = outcome(file)
    assert fields["areas"] == [8.0 if drawn else 12.0] * 60
    assert outcome(file) == expected(file.read_bytes())


@pytest.mark.parametrize(
    "text",
    ['{"images": [{"id": 2, "file_name": "b"}], "images": [{"id": 1, "file_name": "a"}], "annotations": [7, 7], '
     '"annotations": [8], "categories": [{"id": 4}], "categories": [{"id": 1}]}',
     '{"images": [], "images": [{"id": 1, "file_name": "a"}], "annotations": [], "categories": [{"id": 1}]}',
     '{"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1}], "annotations": 3}', "", " ", "{}", "[", "3",
     "{} x", '{"images": [1, 2', '{"images": [1,]}', '{"a": 1 "b"}', '{"a" 1}', "{1: 2}", '{"a": 1,}', '{"a": 12',
     "nul",
     '{"images": [{}]} {', '{"images": [{"a": 1} {"a": 2}]}', "\ufeff{}",
     '{"x": "\ud800"}', '{"x": ' + "7" * 5000 + "}",
     "\n\n{\n 'a': 1}", '{"a": [\n\n2],\n"b": 3,\n"' + "c" * 300 + '": 4,\n "d" 5}',
     '{"a": "\n"}', '{"a": "' + "x" * 300 + '", b}'],
)  # fmt: skip
def test_other_files_are_refused_as_python_refuses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    for block in (7, 70, 1 << 20):
        monkeypatch.setattr(json_files, "BLOCK", block)
        wanted, got = expected(file.read_bytes()), outcome(file)
        assert isinstance(got, str) == isinstance(wanted, str)
        assert wanted in got if isinstance(wanted, str) else got == wanted


def test_values_may_be_cut_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    lists = (
        f'"images": [{{"id": 1, "file_name": "\u00e9"}}], "categories": [{{"id": 1}}], "annotations": [{ONE}, {ONE}]'
    )
    file.write_text(f'{{"version": 1234.5e+10, "n": -12345678901, {lists}, "ok": true, "last": 0.25}}')
    wanted = expected(file.read_bytes())
    assert not isinstance(wanted, str)
    for block in range(1, 90):
        monkeypatch.setattr(json_files, "BLOCK", block)
        assert outcome(file) == wanted, block


# ---- the arrays ------------------------------------------------------------------------------------------------------


def posed(folder: Path) -> data.CocoDataset:
    """Return a data set of three images with 3, 0 and 2 objects, some with keypoints, one outside its image."""
    source = poses()
    source["images"] += [{"id": 5, "file_name": "1.png"}, {"id": 9, "file_name": "./1.png"}]
    joints = [6, 6, 2, 0, 0, 0, 7, 7, 1]
    source["annotations"] += [
        {"id": 3, "image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4], "keypoints": joints},
        {"id": 4, "image_id": 1, "category_id": 1, "bbox": [900, 2, 3, 4], "keypoints": joints},
        {"id": 5, "image_id": 9, "category_id": 2, "bbox": [4, 4, 3, 4], "iscrowd": 1},
    ]
    return opened(folder, source)


def plain(record: Any) -> Any:
    """Return a record as plain values."""

    def of(values: Any) -> Any:
        return [None if v is None else v.tolist() for v in values]

    found, objects = [record.path, record.size, record.oriented], record.objects
    for part in (record, objects):
        found += [part.boxes.tolist(), part.labels.tolist(), part.crowd.tolist(), of(part.keypoints)]
    return [*found, objects.areas.tolist()]


def test_records_are_views(tmp_path: Path) -> None:
    dataset = posed(tmp_path)
    first, second, third = dataset.records
    assert [len(r.objects.boxes) for r in (first, second, third)] == [3, 0, 2]
    assert [len(r.boxes) for r in (first, second, third)] == [2, 0, 2]
    assert [None if k is None else k[0].tolist() for k in first.objects.keypoints] == [[5, 5, 2], None, [6, 6, 2]]
    assert [None if k is None else k[0].tolist() for k in third.keypoints] == [[6, 6, 2], None]
    assert plain(dataset.records[-1]) == plain(third)
    assert [plain(r) for r in dataset.records[:2]] == [plain(first), plain(second)]
    with pytest.raises(IndexError):
        dataset.records[3]
    dataset.targets(0).boxes.zero_()  # a copy
    assert dataset.targets(-3).boxes.tolist() == first.boxes.tolist() != [[0] * 4] * 2


@pytest.mark.parametrize("indices", [[2], [2, 0, 1], [0, 0, 2, 2], [1], [], [-1, 0]])
def test_selections_and_joined_data_sets_hold_the_same_records(tmp_path: Path, indices: list[int]) -> None:
    dataset = posed(tmp_path)
    records = [plain(r) for r in dataset.records]
    chosen = dataset.select(indices)
    assert [plain(r) for r in chosen.records] == [records[i] for i in indices]
    assert [r.image_id for r in chosen.records] == (
        [1, 2, 3, 4] if len({*indices}) < len(indices) else [[1, 5, 9][i] for i in indices]
    )
    joined = data.as_coco(ConcatDataset([dataset, chosen, dataset])) if indices else dataset
    assert [plain(r) for r in joined.records] == records + ([records[i] for i in indices] + records if indices else [])
    assert len({r.image_id for r in joined.records}) == len(joined)
    assert data.aspect_groups(joined) == [1] * len(joined)
    swapped = joined.relabel([2, 1])
    for before, after in zip(joined.records, swapped.records, strict=True):
        assert (1 - before.objects.labels).tolist() == after.objects.labels.tolist()
    assert joined.without_keypoints().targets(0).keypoints is None


def test_a_data_set_of_many_images_is_small_for_other_processes(tmp_path: Path) -> None:
    dataset = posed(tmp_path).select([0, 2] * 20_000)
    handles = bytes(ForkingPickler.dumps(dataset))  # what starting a process sends
    assert len(handles) < 50_000
    assert dataset.records.objects.boxes.is_shared()
    assert len(dataset.targets(39_999)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes_share_the_arrays(tmp_path: Path, method: str) -> None:
    dataset = posed(tmp_path).select([0, 2] * 50)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=method, timeout=120)
    for (image, targets), (mine, wanted) in zip(loader, dataset, strict=True):
        assert torch.equal(image, mine)
        assert torch.equal(targets.boxes, wanted.boxes)
        assert torch.equal(targets.keypoints, wanted.keypoints)


def test_reports_count_all_problems_and_keep_some(tmp_path: Path) -> None:
    source = content()
    source["annotations"] += [{"id": i, "image_id": 1, "category_id": 1, "bbox": None} for i in range(4, 4004)]
    source["annotations"] += [{"id": 9000, "image_id": 1, "category_id": 1, "bbox": [60, 40, 30, 30]}]
    report = opened(tmp_path, source).report
    assert (len(report), report.counts) == (4001, {"annotation skipped": 4000, "box clipped": 1})
    assert [p.action for p in report.problems] == ["annotation skipped"] * KEPT + ["box clipped"]
    assert "… and 3980 more (annotation skipped)" in str(report)
    assert "(and 4000 more problems)" in report.brief()
    both = data.Report.joined([report, report])
    assert (len(both), both.counts["box clipped"]) == (8002, 2)
    assert np.isfinite(len(str(both)))


def test_problems_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    source = content()
    entry = source["annotations"][0]
    source["annotations"] += [
        entry | {"id": 40, "area": -1}, entry | {"id": 30, "category_id": 9}, entry | {"id": 35, "bbox": None}, 7,
        entry | {"id": 20, "image_id": 9}, entry | {"id": 10, "keypoints": [1]}, entry | {"id": 5, "iscrowd": 3},
    ]  # fmt: skip
    found = [p.where.removesuffix(" of 1.png") for p in opened(tmp_path, source).report.problems]
    assert found == [f"annotation {n}" for n in (40, 30, 35, "number 6", 20, 10, 5)]


def test_keypoints_of_another_number_are_ignored(tmp_path: Path) -> None:
    dataset = opened(tmp_path, poses(keypoints=[5, 5, 2, 6, 6, 2]))
    assert [p.what for p in dataset.report.problems] == ["keypoints must be 3 times x, y, visibility, got 6 values"]
    assert dataset.records[0].objects.keypoints == (None, None)
    assert not dataset.targets(0).keypoints.any()
