"""Classes are joined by name wherever two files, or a file and a model, meet."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, random_split

from pyrcnn import Detections, InputError, Targets, checkpoints, data, evaluate, models, train
from pyrcnn.evaluate.prediction import category_ids
from pyrcnn.models.labels import match_classes
from tests.detector import TinyConfig, TinyDetector

QUICK = train.TrainConfig(out=None, epochs=1, batch_size=2, learning_rate=1e-20, weight_decay=0.0, augment=())
CENTERNET = "centernet_mobilenet_v2_fpn_512"


def made(folder: Path, names: Sequence[str], ids: Sequence[Any], objects: Sequence[str] = ("cat", "dog")) -> Any:
    """Return a data set of three equal images, with one box per name in ``objects`` and categories as given."""
    folder.mkdir(exist_ok=True)
    boxes = [[2 + 14 * i, 5, 10, 10 + i] for i in range(len(objects))]
    images, annotations = [], []
    for n in (1, 2, 3):
        Image.new("RGB", (64, 48), (80 * n, 90, 100)).save(folder / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png"})
        annotations += [{"id": len(annotations) + i, "image_id": n, "category_id": ids[names.index(name)], "bbox": box}
                        for i, (name, box) in enumerate(zip(objects, boxes, strict=True))]  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)]
    file = folder / f"{len(list(folder.iterdir()))}.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return data.coco(folder, file)


class Perfect(torch.nn.Module):
    """Detects the truth of a data set's first image, with that data set's labels."""

    def __init__(self, dataset: Any, classes: Sequence[str] | None = None, ids: Sequence[Any] | None = None):
        super().__init__()
        self.truth = dataset.targets(0)
        self.classes = list(dataset.classes if classes is None else classes)
        self.category_ids = list(dataset.category_ids if ids is None else ids)

    def forward(self, images: list[torch.Tensor]) -> list[Detections]:
        scores = torch.linspace(0.9, 0.5, len(self.truth))
        return [Detections(self.truth.boxes, scores, self.truth.labels) for _ in images]


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "ids", "known", "known_ids", "found"),
    [
        (["a", "b"], [1, 2], ["b", "a"], [1, 2], [1, 0]),
        (["a", "b"], [1, 2], ["a", "c"], [1, 2], [0, None]),
        (["Traffic Light", "b "], [1, 2], ["B", "traffic_light"], [1, 2], [1, 0]),
        (["A", "a"], [1, 2], ["a", "A"], [1, 2], [1, 0]),
        (["A", "a"], [1, 2], ["a", "b"], [1, 2], [None, 0]),  # A is not a, which is there
        (["3", "7"], [3, 7], ["cat", "dog"], [7, 3], [1, 0]),  # a file without names
        (["cat"], [3], ["class 3", "class 4"], [3, 4], [0]),  # a model without names
        (["cat"], [5], ["class 3", "class 4"], [3, 4], [None]),
        (["cat", "dog"], [1, 2], ["dog", "cat"], [None, None], [1, 0]),
        (["person", "person"], [1, 5], ["person", "person"], [5, 1], [1, 0]),  # names that tell nothing
        (["person", "person"], [1, 5], ["person"], [1], [None, None]),
    ],
)
def test_matching(names: Any, ids: Any, known: Any, known_ids: Any, found: Any) -> None:
    assert match_classes(names, ids, known, known_ids) == found


# ---- a model and a data set ------------------------------------------------------------------------------------------

OTHER_IDS = [
    (["cat", "dog"], [2, 1]), (["dog", "cat"], [1, 2]), (["dog", "cat"], [0, 7]), (["Cat", "DOG"], ["c", "d"]),
    (["animal", "dog", "cat"], [0, 1, 2]),
]  # fmt: skip


@pytest.mark.parametrize(("names", "ids"), OTHER_IDS)
def test_evaluation_joins_by_name(tmp_path: Path, names: list[str], ids: list[Any]) -> None:
    model = Perfect(made(tmp_path, ["cat", "dog"], [1, 2]))
    wanted = ("Cat", "DOG") if "Cat" in names else ("cat", "dog")
    other = made(tmp_path, names, ids, wanted)
    assert evaluate.coco(model, other)["AP"] == pytest.approx(1)
    assert {r["category_id"] for r in evaluate.predict(model, other)} == {ids[names.index(n)] for n in wanted}


@pytest.mark.parametrize(("names", "ids"), [(["cat", "bird"], [1, 2]), (["x", "y"], [1, 2]), (["1", "2"], ["1", "2"])])
def test_evaluation_refuses_other_names(tmp_path: Path, names: list[str], ids: list[Any]) -> None:
    model = Perfect(made(tmp_path, ["cat", "dog"], [1, 2]))
    with pytest.raises(InputError, match=rf"got none named .*{names[1]} \(id {ids[1]}\); model\.classes are cat, dog"):
        evaluate.coco(model, made(tmp_path, names, ids, names))


def test_a_model_without_names_is_scored_by_the_order_of_its_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for ids in ([0, 1], [7, 3], ["x", "y"]):
        dataset = made(tmp_path, ["cat", "dog"], ids)
        unnamed = Perfect(dataset, ["class 1", "class 2"], [1, 2])
        assert evaluate.coco(unnamed, dataset)["AP"] == pytest.approx(1)
        assert f"have no names: they are taken as {', '.join(dataset.classes)}" in caplog.text
    with pytest.raises(InputError, match=r"got none named dog \(id 7\)"):
        evaluate.coco(unnamed, made(tmp_path, ["cat", "bird", "dog"], [1, 2, 7]))


def test_a_model_with_more_classes_is_scored_on_those_of_the_data(tmp_path: Path) -> None:
    both = made(tmp_path, ["cat", "dog"], [1, 2])
    cats = made(tmp_path, ["cat"], [2], ["cat"])  # its id is the dog's
    assert evaluate.coco(Perfect(both), cats)["AP"] == pytest.approx(1)


def test_labels_outside_the_classes_are_refused(tmp_path: Path) -> None:
    dataset = made(tmp_path, ["cat", "dog"], [1, 2])
    for label in (-1, 2):
        wrong = Detections(torch.tensor([[1.0, 1, 5, 5]]), torch.tensor([0.5]), torch.tensor([label]))
        with pytest.raises(InputError, match=rf"labels in 0\.\.1, got {label}"):
            evaluate.coco([wrong] * 3, dataset)


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("names", "ids"), OTHER_IDS[:4])
def test_training_keeps_the_rows_of_a_class(tmp_path: Path, names: list[str], ids: list[Any]) -> None:
    model = TinyDetector()
    train.fit(model, made(tmp_path, ["cat", "dog"], [1, 2]), None, QUICK, quiet=True)
    rows = model.head.weight.detach().clone()
    wanted = ("Cat", "DOG") if "Cat" in names else ("cat", "dog")
    other = made(tmp_path, names, ids, wanted)
    seen: list[int] = []
    model.register_forward_pre_hook(
        lambda _, args: seen.extend(t.labels[0].item() for t in args[1]) if args[1:] else None
    )
    train.fit(model, other, other, QUICK, quiet=True)
    assert [c.lower() for c in model.classes] == ["cat", "dog"]
    assert model.category_ids == [ids[names.index(n)] for n in wanted]
    assert torch.equal(model.head.weight, rows)
    assert set(seen) == {0}  # the first box is the cat's


def test_training_with_some_new_classes_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = TinyDetector()
    train.fit(model, made(tmp_path, ["cat", "dog"], [1, 2]), None, QUICK, quiet=True)
    with caplog.at_level(logging.WARNING):
        train.fit(model, made(tmp_path, ["ant", "cat"], [1, 2], ["ant", "cat"]), None, QUICK, quiet=True)
    assert (model.classes, model.category_ids) == (["cat", "ant"], [2, 1])
    assert "classes dog become ant" in caplog.text


def test_classes_without_objects_need_no_counterpart(tmp_path: Path) -> None:
    dataset = made(tmp_path, ["animal", "dog", "cat"], [0, 1, 2])
    for classes, ids in (
        (["cat", "dog"], [5, 6]),
        (["cat", "dog", "bird"], [5, 6, 7]),
        (["x", "cat", "dog", "y"], [1, 2, 3, 4]),
    ):
        model = TinyDetector(TinyConfig(num_classes=len(classes)))
        model.classes, model.category_ids = list(classes), list(ids)
        train.fit(model, dataset, dataset, QUICK, quiet=True)
        assert (model.classes, model.category_ids) == (classes, ids)
    fresh = models.build(CENTERNET, num_classes=2, input_size=64)
    train.fit(fresh, dataset, dataset, QUICK, quiet=True)
    assert (fresh.classes, fresh.category_ids) == (["dog", "cat"], [1, 2])  # found by their ids: it had no names


def test_a_fresh_model_takes_the_order_of_the_data(tmp_path: Path) -> None:
    for ids in ([0, 1], [2, 1], [1, 2], ["b", "a"]):
        dataset = made(tmp_path, ["cat", "dog"], ids)
        model = models.build(CENTERNET, num_classes=2, input_size=64)
        train.fit(model, dataset, dataset, QUICK, quiet=True)
        assert (model.classes, model.category_ids) == (dataset.classes, dataset.category_ids)


def test_many_classes_and_results_take_no_square_of_time(tmp_path: Path) -> None:
    count = 20_000
    dataset = made(tmp_path, [f"c{i}" for i in range(count)], list(range(count)), ["c7", "c8"])
    truth = dataset.ground_truth()
    found = [
        {"image_id": 1, "category_id": f"n{i}", "label": f"n{i}", "bbox": [0, 0, 1, 1], "score": 1}
        for i in range(count)
    ]
    began = time.process_time()
    assert evaluate.score(truth, [*found, {**truth["annotations"][0], "score": 1}])["AP"] > 0
    model = Perfect(dataset, dataset.classes[::-1], dataset.category_ids)
    assert set(category_ids(model, dataset)) == set(range(count))
    train.labels._take_over(model, dataset.classes, dataset.category_ids, model.classes)
    assert time.process_time() - began < 10


def test_weights_of_our_file_bring_their_classes(tmp_path: Path) -> None:
    small = {"num_classes": 2, "input_size": 64}
    model = models.build(CENTERNET, **small)
    model.classes, model.category_ids = ["dog", "cat"], [5, 6]
    checkpoints.save(model, tmp_path / "m.safetensors")
    fresh = models.build(CENTERNET, **small)
    checkpoints.load(fresh, tmp_path / "m.safetensors")
    assert (fresh.classes, fresh.category_ids) == (["dog", "cat"], [5, 6])
    dataset = made(tmp_path, ["cat", "dog"], [1, 2])
    train.fit(fresh, dataset, None, replace(QUICK, batch_size=1, epochs=0.34), quiet=True)
    assert (fresh.classes, fresh.category_ids) == (["dog", "cat"], [2, 1])
    larger = models.build(CENTERNET, num_classes=3, input_size=64)
    assert checkpoints.load(larger, tmp_path / "m.safetensors", new_heads=True).reshaped
    assert larger.classes == ["class 1", "class 2", "class 3"]


def test_validation_data_are_joined_or_refused_before_the_first_step(tmp_path: Path) -> None:
    trained = made(tmp_path, ["cat", "dog"], [1, 2])
    model = TinyDetector()
    before = model.head.weight.detach().clone()
    with pytest.raises(
        InputError, match=r"val_data must have the classes of the model, got bird \(id 2\) beside cat, dog"
    ):
        train.fit(model, trained, made(tmp_path, ["cat", "bird"], [1, 2], ["cat", "bird"]), QUICK, quiet=True)
    with pytest.raises(InputError, match=r"val_data must be from data\.coco"):
        train.fit(model, trained, [trained[0]], QUICK, quiet=True)
    assert torch.equal(model.head.weight, before)
    result = train.fit(model, trained, made(tmp_path, ["dog", "cat"], [1, 2]), QUICK, quiet=True)
    assert result.scores["AP"] >= 0


# ---- wrappers --------------------------------------------------------------------------------------------------------


def test_subsets_keep_names_ids_and_truth(tmp_path: Path) -> None:
    dataset = made(tmp_path, ["cat", "dog"], [4, 9])
    for part in (Subset(dataset, [2, 0]), random_split(dataset, [2, 1])[0], Subset(Subset(dataset, [0, 1, 2]), [1, 2]),
                 Subset(dataset, torch.tensor([1, 2]))):  # fmt: skip
        coco = data.as_coco(part)
        assert (coco.classes, coco.category_ids, len(coco)) == (["cat", "dog"], [4, 9], 2)
        assert all(
            torch.equal(coco[i][0], part[i][0]) and torch.equal(coco[i][1].boxes, part[i][1].boxes) for i in (0, 1)
        )
        model = TinyDetector()
        train.fit(model, part, part, QUICK, quiet=True)
        assert (model.classes, model.category_ids) == (["cat", "dog"], [4, 9])
        assert evaluate.coco(Perfect(dataset), part)["AP"] == pytest.approx(1)


def test_repeated_images_are_scored_as_images_of_their_own(tmp_path: Path) -> None:
    dataset = made(tmp_path, ["cat", "dog"], [1, 2])
    for repeated in (Subset(dataset, [0, 0, 2]), ConcatDataset([dataset, dataset])):
        truth = data.as_coco(repeated).ground_truth()
        assert len({a["image_id"] for a in truth["annotations"]}) == len(repeated)
        assert evaluate.coco(Perfect(dataset), repeated)["AP"] == pytest.approx(1)


def test_a_users_subclass_stays_one(tmp_path: Path) -> None:
    class Darker(data.CocoDataset):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, Targets]:
            return self.image(index) // 2, self.targets(index)

    dataset = made(tmp_path, ["cat", "dog"], [1, 2])
    dataset.__class__ = Darker
    for other in (dataset.relabel([2, 1]), dataset.select([0]), dataset.without_keypoints(), Subset(dataset, [0])):
        assert isinstance(data.as_coco(other), Darker)


def test_joined_data_sets_agree_by_name(tmp_path: Path) -> None:
    first = made(tmp_path / "a", ["cat", "dog"], [1, 2])
    second = made(tmp_path / "b", ["animal", "dog", "cat"], [0, 1, 2])
    joined = data.as_coco(ConcatDataset([first, Subset(second, [0, 1])]))
    assert (len(joined), joined.classes, joined.category_ids) == (5, ["cat", "dog"], [1, 2])
    assert all(joined.targets(i).labels.tolist() == [0, 1] for i in range(5))
    assert len({r.image_id for r in joined.records}) == 5
    assert evaluate.coco(Perfect(first), ConcatDataset([first, second]))["AP"] == pytest.approx(1)
    train.fit(TinyDetector(), ConcatDataset([first, second]), ConcatDataset([first, second]), QUICK, quiet=True)
    third = made(tmp_path / "c", ["cat", "bird"], [1, 2], ["cat", "bird"])
    with pytest.raises(InputError, match=r"same classes to be joined, got bird \(id 2\) beside cat, dog"):
        data.as_coco(ConcatDataset([first, third]))


def test_joined_wrappers_agree_by_name(tmp_path: Path) -> None:
    first, second = made(tmp_path, ["cat", "dog"], [1, 2]), made(tmp_path, ["dog", "cat"], [1, 2])
    model = TinyDetector()
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, args: seen.extend(t.labels[0].item() for t in args[1]))
    train.fit(model, ConcatDataset([Brighter(first), second]), None, replace(QUICK, epochs=2), quiet=True)
    assert (model.classes, set(seen)) == (["cat", "dog"], {0})
    fresh = models.build(CENTERNET, num_classes=2, input_size=64)
    with pytest.raises(InputError, match=r"items must be \(image, pyrcnn\.Targets\), got targets of dict"):
        train.fit(fresh, [(first.image(0), {"boxes": first.targets(0).boxes})], None, QUICK, quiet=True)
    for other in (Brighter(made(tmp_path, ["cat", "bird"], [1, 2], ["cat", "bird"])), [first[0]]):
        with pytest.raises(InputError, match=r"same classes to be joined, got (bird|none) beside cat, dog"):
            train.fit(model, ConcatDataset([Brighter(first), other]), None, QUICK, quiet=True)


class Brighter(Dataset):
    """A user's wrapper: other pixels, the targets of the data set in it."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Targets]:
        image, targets = self.dataset[index]
        return image // 2 + 100, targets


@pytest.mark.parametrize("wrap", [Brighter, lambda d: Brighter(Brighter(d)), lambda d: Subset(Brighter(d), [0, 1, 2])])
def test_wrappers_keep_the_classes_of_what_they_wrap(tmp_path: Path, wrap: Any) -> None:
    model = TinyDetector()
    train.fit(model, made(tmp_path, ["cat", "dog"], [1, 2]), None, QUICK, quiet=True)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, args: seen.extend(t.labels[0].item() for t in args[1]))
    train.fit(model, wrap(made(tmp_path, ["dog", "cat"], [1, 2])), None, QUICK, quiet=True)
    assert (model.classes, set(seen)) == (["cat", "dog"], {0})
    with pytest.raises(InputError, match=r"build it with num_classes=3"):
        train.fit(model, wrap(made(tmp_path, ["a", "b", "cat"], [1, 2, 3], ["a", "b"])), None, QUICK, quiet=True)
    larger = TinyDetector(TinyConfig(num_classes=3))
    larger.classes, larger.category_ids = ["dog", "bird", "cat"], [1, 2, 3]
    train.fit(larger, wrap(made(tmp_path, ["cat", "dog"], [1, 2])), None, QUICK, quiet=True)
    assert larger.classes == ["dog", "bird", "cat"]


# ---- result files with names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["category_name", "category", "label"])
@pytest.mark.parametrize("ids", [(2, 1), (1, 2), (None, None), (77, 78)])
def test_results_with_names_join_by_name(tmp_path: Path, key: str, ids: tuple[Any, Any]) -> None:
    truth = made(tmp_path, ["cat", "dog"], [1, 2]).ground_truth()
    found = []
    for a in truth["annotations"]:
        label = a["category_id"] - 1
        found.append({"image_id": a["image_id"], "bbox": a["bbox"], "score": 0.9, "category_id": ids[label],
                      key: ("Cat", "dog")[label]})  # fmt: skip
    assert evaluate.score(truth, found)["AP"] == pytest.approx(1)
    with pytest.raises(InputError, match=r"must have a class of the annotations \(cat, dog\), got 'bird'"):
        evaluate.score(truth, [found[0] | {key: "bird"}])


def test_results_in_the_annotation_format_join_by_their_lists(tmp_path: Path) -> None:
    truth = made(tmp_path, ["cat", "dog"], [1, 2]).ground_truth()
    other = {"images": [{"id": 4 - i["id"], "file_name": i["file_name"]} for i in truth["images"]],
             "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
             "annotations": [{"image_id": 4 - a["image_id"], "category_id": 3 - a["category_id"], "bbox": a["bbox"],
                              "score": 0.9} for a in truth["annotations"]]}  # fmt: skip
    truth["annotations"][0]["bbox"] = other["annotations"][0]["bbox"] = [30, 1, 9, 9]  # the images differ
    assert evaluate.score(truth, other)["AP"] == pytest.approx(1)
    other["categories"] = [{"id": 1, "name": "bird"}, {"id": 2, "name": "\x1b[31mfish"}]
    with pytest.raises(InputError, match=r"classes of the annotations \(cat, dog\), got bird, \\x1b\[31mfish"):
        evaluate.score(truth, other)
