from __future__ import annotations

import json
import logging
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyrcnn import InputError, Targets, data
from tests.detector import annotation_file, dataset


def test_items_labels_and_boxes(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    image, targets = d[0]
    assert image.dtype == torch.uint8
    assert image.shape == (3, 30, 40)
    assert (d.classes, d.category_ids) == (["cell", "disc"], [3, 5])  # in the order of their ids, not of the file
    given = [a for a in json.loads((tmp_path / "annotations.json").read_text())["annotations"] if a["image_id"] == 1]
    assert targets.labels.tolist() == [[3, 5].index(a["category_id"]) for a in given]
    x, y, w, h = given[0]["bbox"]
    assert targets.boxes[0].tolist() == [x, y, x + w, y + h]
    assert not d.report


def test_every_fault_is_reported_and_the_rest_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "images"
    content = annotation_file(folder)
    (folder / "1.jpg").unlink()
    whole = (folder / "2.jpg").read_bytes()
    (folder / "2.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "3.jpg").write_text("not an image")
    boxes = {101: [30, 20, 30, 30], 102: [5, 5, 0, 4], 103: [50, 50, 5, 5], 104: [1, 1, float("nan"), 3], 105: [1, 2]}
    for number, box in boxes.items():
        content["annotations"].append({"id": number, "image_id": 4, "category_id": 3, "bbox": box})
    content["annotations"].append({"id": 106, "image_id": 4, "category_id": 77, "bbox": [1, 1, 5, 5]})
    content["annotations"].append({"id": 107, "image_id": 999, "category_id": 3, "bbox": [1, 1, 5, 5]})
    (tmp_path / "a.json").write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        d = data.coco(folder, tmp_path / "a.json")
    assert [r.path.name for r in d.records] == ["4.jpg", "5.jpg", "6.jpg"]
    assert len(d.targets(0)) == 3  # two of its own, and annotation 101 clipped
    assert d.targets(0).boxes[2].tolist() == [30, 20, 40, 30]
    assert len(caplog.records) == 1  # one report
    text = str(d.report)
    assert caplog.records[0].getMessage() == text
    for expected in ("1.jpg: the file is missing", "2.jpg: the file is damaged", "3.jpg: the file is not an image",
                     "annotation 101 of 4.jpg: box [30, 20, 30, 30] reaches outside the 40x30",
                     "annotation 102 of 4.jpg",
                     "has no area", "annotation 103", "lies outside", "annotation 104", "not finite", "annotation 105",
                     "annotation 106 of 4.jpg: category 77 does not exist", "annotation 107: image 999"):  # fmt: skip
        assert expected in text
    assert len(d.report) == 10
    used = {a["image_id"] for a in d.ground_truth()["annotations"]}
    assert used == {4, 5, 6}


def test_a_data_set_without_anything_usable_is_an_error(tmp_path: Path) -> None:
    content = annotation_file(tmp_path / "p")
    file = tmp_path / "a.json"
    for broken, message in (
        ("{", "must be valid JSON"), ("[]", "must hold the lists"),
        (json.dumps(content | {"images": []}), "must list at least one image"),
        (json.dumps(content | {"categories": []}), "must name at least one category"),
    ):  # fmt: skip
        file.write_text(broken)
        with pytest.raises(InputError, match=message):
            data.coco(tmp_path / "p", file)
    with pytest.raises(InputError, match="images_dir must be a folder"):
        data.coco(tmp_path / "none", file)
    file.write_text(json.dumps(content))
    for file_of_image in (tmp_path / "p").iterdir():
        file_of_image.unlink()
    with pytest.raises(InputError, match="must leave at least one usable image"):
        data.coco(tmp_path / "p", file)


def test_exif_orientation_follows_the_stated_size(tmp_path: Path) -> None:
    content = annotation_file(tmp_path / "p", 1)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.new("RGB", (40, 30)).save(tmp_path / "p/1.jpg", exif=exif)
    for width, height in ((40, 30), (30, 40)):
        content["images"][0].update(width=width, height=height)
        (tmp_path / "a.json").write_text(json.dumps(content))
        assert data.coco(tmp_path / "p", tmp_path / "a.json")[0][0].shape == (3, height, width)


def test_grey_palette_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    content = annotation_file(tmp_path / "p", 1)
    content["images"][0]["file_name"] = "1.png"
    (tmp_path / "a.json").write_text(json.dumps(content))
    for mode in ("L", "P", "RGBA", "1"):
        Image.new(mode, (40, 30)).save(tmp_path / "p/1.png")
        assert data.coco(tmp_path / "p", tmp_path / "a.json")[0][0].shape == (3, 30, 40)


def painted_image() -> tuple[torch.Tensor, Targets]:
    """Return an image with a bright rectangle on black, its box, and three keypoints, one at its upper left corner."""
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    image[:, 20:40, 30:50] = 255
    keypoints = torch.tensor([[[30.0, 20.0, 2.0], [50.0, 20.0, 1.0], [0.0, 0.0, 0.0]]])
    return image, Targets(torch.tensor([[30.0, 20.0, 50.0, 40.0]]), torch.tensor([1]), keypoints)


PAIRS = ((0, 1),)
TRANSFORMS = (
    data.HorizontalFlip(1.0, PAIRS), data.VerticalFlip(1.0), data.Resize(120, 400), data.Pad(64, 0),
    data.ScaleJitter(1.2, 1.5, fill=0), data.ScaleJitter(0.5, 0.8, fill=0), data.ScaleJitter(1, 1, (120, 100), 0),
    data.RandomCrop(0.8, 0.9, 1.0),
)  # fmt: skip


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_boxes_follow_the_pixels(transform: data.Transform) -> None:
    for seed in range(5):
        image, targets = painted_image()
        before = image.clone()
        changed, moved = transform(image, targets, torch.Generator().manual_seed(seed))
        assert torch.equal(image, before)
        ys, xs = (changed[0] > 127).nonzero().unbind(1)
        seen = torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], dtype=torch.float32)
        assert torch.allclose(moved.boxes[0], seen, atol=1.01)
        assert moved.keypoints is not None
        x, y, v = moved.keypoints[0].unbind(1)
        assert v[2] == 0
        corner = torch.stack([seen[0], seen[3] if isinstance(transform, data.VerticalFlip) else seen[1]])
        if v[0] > 0:  # the first keypoint is on the left before and after a flip, because the pair swaps
            assert torch.allclose(torch.stack([x[0], y[0]]), corner, atol=1.01)


def test_crops_remove_boxes_that_are_hardly_visible() -> None:
    image, targets = painted_image()
    cut, moved = data.ScaleJitter(4, 4)(image, targets, torch.Generator().manual_seed(3))
    assert cut.shape == image.shape
    assert len(moved) in (0, 1)
    assert all((moved.boxes[:, 2:] > moved.boxes[:, :2]).flatten())


def test_colours_change_and_boxes_do_not() -> None:
    image, targets = painted_image()
    image = torch.randint(0, 256, image.shape, dtype=torch.uint8)
    same, _ = data.ColorJitter(0, 0, 0)(image, targets, torch.Generator())
    assert (same.int() - image.int()).abs().max() <= 1
    grey, kept = data.ColorJitter(0, 0, 1)(image, targets, torch.Generator().manual_seed(0))
    assert not torch.equal(grey, image)
    assert kept is targets


def test_flip_pairs_by_name() -> None:
    assert data.flip_pairs(["nose", "left_eye", "right_eye", "left_ear"]) == ((1, 2),)


def key(batch: data.loader.Batch) -> list:
    return [(p.sum().item(), t.boxes.tolist()) for p, t in zip(*batch, strict=True)]


def test_batches_resume_anywhere_and_do_not_depend_on_workers(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    transforms = (data.HorizontalFlip(), data.ScaleJitter(), data.ColorJitter())
    through, per_epoch = data.batches(d, 2, transforms, seed=1)
    first = [key(b) for b in islice(through, 7)]
    assert per_epoch == 3
    later, _ = data.batches(d, 2, transforms, seed=1, start=4)
    assert [key(b) for b in islice(later, 3)] == first[4:]
    workers, _ = data.batches(d, 2, transforms, seed=1, workers=2)
    assert [key(b) for b in islice(workers, 7)] == first
    other, _ = data.batches(d, 2, transforms, seed=2)
    assert [key(b) for b in islice(other, 7)] != first


def test_each_epoch_sees_every_item_once() -> None:
    order = data.BatchOrder(7, 2, groups=[0, 0, 0, 0, 1, 1, 1])
    assert order.per_epoch == 3
    batches = list(islice(iter(order), 3))
    assert len({index for batch in batches for _, index in batch}) == 6
    assert sorted(index for _, index in next(iter(data.BatchOrder(3, 8)))) == [0, 1, 2]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_processes_share_each_batch(count: int) -> None:
    whole = list(islice(iter(data.BatchOrder(9, 4, seed=3)), 5))
    parts = [list(islice(iter(data.BatchOrder(9, 4, seed=3, part=(k, count))), 5)) for k in range(count)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(item for share in shares[:4] for item in share) == sorted(batch)
        assert all(share == batch[:1] for share in shares[4:])  # none is left for them: any image, which does not count


def test_cache_and_relabelling(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    cached = data.coco(tmp_path / "images", tmp_path / "annotations.json", cache=True)
    (tmp_path / "images/1.jpg").unlink()
    assert cached.image(0) is cached.image(0)
    with pytest.raises(InputError, match=r"1\.jpg: the file is missing"):
        d.image(0)
    other = cached.relabel([9, 5, 3])
    assert other.targets(0).labels.tolist() == [[9, 5, 3].index([3, 5][v]) for v in cached.targets(0).labels]
    with pytest.raises(InputError, match="got none for"):
        d.relabel([3])
    assert np.isfinite(cached.targets(0).boxes.numpy()).all()


def test_old_names_still_work(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    with pytest.warns(DeprecationWarning, match="use image"):
        assert torch.equal(d.picture(0), d.image(0))
    with pytest.warns(DeprecationWarning, match="use keypoint_names"):
        assert d.joints == []
    with pytest.warns(DeprecationWarning, match="use relabel"):
        assert d.relabelled([3, 5]).category_ids == [3, 5]
