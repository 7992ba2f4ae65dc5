"""Damaged images of a data set are skipped, named and counted, whether their headers show the damage or not."""

from __future__ import annotations

import json
import logging
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pyrcnn import Detections, InputError, Targets, data, evaluate

from . import made


def damaged_inside(content: bytes) -> bytes:
    """A PNG file whose pixels cannot be decoded; its header and its end are in order."""
    at = content.index(b"IDAT") + 4 + 40
    return content[:at] + bytes(30) + content[at + 30 :]


def data_set(folder: Path, files: dict[str, bytes], **options: bool) -> data.CocoDataset:
    entries, annotations = [], []
    for number, (name, content) in enumerate(files.items(), start=1):
        (folder / name).write_bytes(content)
        entries.append({"id": number, "file_name": name})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": [1, 1, 9, 9]})
    content = {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (folder / "a.json").write_text(json.dumps(content))
    return data.coco(folder, folder / "a.json", **options)


WHOLE, INSIDE = made.encode("PNG"), damaged_inside(made.encode("PNG"))


def some_damaged(folder: Path, **options: bool) -> data.CocoDataset:
    return data_set(folder, {"1.png": WHOLE, "2.png": INSIDE, "3.png": WHOLE, "4.png": INSIDE}, **options)


@pytest.mark.parametrize(
    "name", [n for n in made.one_of_each() if n.startswith("a.") and not n.endswith(("icns", "mpo"))]
)
def test_a_cut_file_of_any_format_is_skipped_and_named(name: str, tmp_path: Path) -> None:
    content = made.one_of_each()[name]
    dataset = data_set(tmp_path, {"whole.png": WHOLE, name: content[: len(content) // 2]})
    assert [record.path.name for record in dataset.records] == ["whole.png"]
    assert f"{tmp_path / name}: the file is" in str(dataset.report)
    assert "image skipped" in str(dataset.report)


def test_recorded_sizes_are_those_of_the_images_that_come(tmp_path: Path) -> None:
    dataset = data_set(tmp_path, made.one_of_each())
    assert not dataset.report
    for record, (image, _) in zip(dataset.records, dataset, strict=True):
        assert image.shape[1:] == record.size


@pytest.mark.parametrize("workers", [0, 2])
def test_training_skips_and_counts_what_the_header_does_not_show(
    workers: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = some_damaged(tmp_path)
    assert len(dataset) == 4
    assert not dataset.report
    with caplog.at_level(logging.WARNING):
        batches, per_epoch = data.batches(dataset, 2, workers=workers)
        for images, targets in islice(batches, 3 * per_epoch):
            assert [image.shape for image in images] == [(3, 20, 30)] * 2
            assert [len(t) for t in targets] == [1, 1]
    assert sorted(p.where for p in dataset.report.problems) == [f"image {tmp_path}/{n}.png" for n in (2, 4)]
    assert {p.action for p in dataset.report.problems} == {"image skipped"}
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "(2 so far)" in messages[1]
    assert [image["id"] for image in dataset.ground_truth()["images"]] == [1, 3]


def test_training_ends_if_no_image_can_be_read(tmp_path: Path) -> None:
    dataset = data_set(tmp_path, {"1.png": INSIDE, "2.png": INSIDE})
    batches, _ = data.batches(dataset, 1)
    with pytest.raises(InputError, match=r"train_data must have an image that can be read, got 2 that cannot: .*png"):
        next(batches)


class Finds(nn.Module):
    """Finds the box of each image."""

    def forward(self, images: list[Tensor]) -> list[Detections]:
        return [Detections(torch.tensor([[1.0, 1, 10, 10]]), torch.ones(1), torch.zeros(1, dtype=torch.int64))
                for _ in images]  # fmt: skip


def test_evaluation_leaves_damaged_images_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = some_damaged(tmp_path)
    for _ in range(2):
        assert evaluate.coco(Finds(), dataset)["AP"] == 1.0
    assert len(caplog.records) == len(dataset.report) == 2


def test_a_cache_holds_the_images_that_can_be_read(tmp_path: Path) -> None:
    dataset = some_damaged(tmp_path, cache=True)
    assert [record.image_id for record in dataset.records] == [1, 3]
    assert len(dataset.report) == 2
    assert dataset.image(1).shape == (3, 20, 30)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 1000), (1000, 1), (3, 1)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_transforms_take_images_that_are_one_pixel_wide_or_high(size: tuple[int, int], channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = Targets(torch.tensor([[0.0, 0, size[1], size[0]]]), torch.tensor([0]))
    for transform in (data.Resize(8, 10), data.Resize(800, 1333), data.ScaleJitter(), data.ScaleJitter(0.1, 10),
                      data.ScaleJitter(1, 1, (64, 64)), data.ScaleJitter(0.5, 2, (1, 1)), data.RandomCrop(0.1, 0.2, 1),
                      data.Pad(), data.ColorJitter()):  # fmt: skip
        for _ in range(5):
            image = torch.full((3, *size), 100, dtype=torch.uint8)
            if channels_last:
                image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
            changed, _ = transform(image, targets, generator)
            assert min(changed.shape) > 0
            if isinstance(transform, data.Resize):
                assert changed.unique().tolist() == [100]
    column = torch.arange(0, 250, dtype=torch.uint8).view(1, 250, 1).expand(3, -1, -1).contiguous()
    shrunk, _ = data.Resize(1, 50)(column, Targets(torch.zeros(0, 4), torch.zeros(0).long()), generator)
    assert (shrunk[0, :, 0].float() - torch.arange(2, 250, 5)).abs().max() <= 1
