"""Alternating training (Ren et al. 2015, section 3.2): what learns in each step, what stays, and that it resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pyrcnn import InputError, Targets, data, models, train
from pyrcnn.models import FasterRCNN
from pyrcnn.train.alternating import WithProposals, split
from tests.detector import TinyDetector, dataset

SMALL = {
    "num_classes": 2, "fpn_channels": 16, "min_size": 64, "max_size": 96,
    "rpn": {"sizes": ((8,), (16,), (24,), (32,), (48,)), "before_nms": (60, 30), "after_nms": (60, 20)},
    "roi": {"width": 32, "samples": 32},
}  # fmt: skip
QUICK = train.TrainConfig(steps=2, batch_size=2, learning_rate=2e-3, warmup=0.0, log_every=1, checkpoint_minutes=0,
                          weight_decay=0.1)  # fmt: skip


def small(**more: Any) -> FasterRCNN:
    torch.manual_seed(0)
    model = models.build("faster_rcnn_mobilenet_v2_fpn", **(SMALL | more))
    assert isinstance(model, FasterRCNN)
    return model


def weights(folder: Path, number: int) -> dict[str, Tensor]:
    return torch.load(folder / f"weights{number}.pt", weights_only=True)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    """The parts of a model that are equal bit for bit, statistics of batch norms included."""
    parts = {name.partition(".")[0] for name in one}
    return {p for p in parts if all(torch.equal(v, other[n]) for n, v in one.items() if n.startswith(p + "."))}


def test_each_step_trains_its_part_and_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[tuple[dict[str, Tensor], set[str]]] = []
    fit = train.fit

    def noted(model: Any, *arguments: Any, **options: Any) -> train.Result:
        state = {name: value.clone() for name, value in model.module.state_dict().items()}
        starts.append((state, {n.partition(".")[0] for n, p in model.module.named_parameters() if p.requires_grad}))
        return fit(model, *arguments, **options)

    monkeypatch.setattr(train, "fit", noted)
    model = small(trainable_layers=2)
    flags = [p.requires_grad for p in model.parameters()]
    assert not all(flags)
    d = dataset(tmp_path)
    out = tmp_path / "run"
    config = replace(QUICK, steps=8, learning_rate=3e-3, checkpoint_minutes=9, out=str(out))
    few = torch.utils.data.Subset(d, range(3))  # to score
    result = train.fit_alternating(model, d, few, config, quiet=True)
    initial, *after = (weights(out, number) for number in range(5))
    assert [learns for _, learns in starts] == [{"backbone", "rpn"}, {"backbone", "roi"}, {"rpn"}, {"roi"}]
    one, two, three, four = (state for state, _ in starts)
    assert same(one, initial) == {"backbone", "rpn", "roi"}
    assert same(two, initial) == {"backbone", "roi"}  # a fresh backbone
    assert same(two, after[0]) == {"rpn", "roi"}
    assert same(three, after[1]) == same(four, after[2]) == {"backbone", "rpn", "roi"}
    assert same(after[0], initial) == {"roi"}
    assert same(after[1], after[0]) == {"rpn"}
    assert not same(after[1], initial)
    assert same(after[2], after[1]) == {"backbone", "roi"}  # bit for bit
    assert same(after[3], after[2]) == {"backbone", "rpn"}
    assert same({n: v.clone() for n, v in model.state_dict().items()}, after[3]) == {"backbone", "rpn", "roi"}
    assert [p.requires_grad for p in model.parameters()] == flags
    assert not model.training
    assert json.loads((out / "alternating.json").read_text())["step"] == 4
    assert result.last_file == out / "step4/last.safetensors"
    assert "AP" in result.scores
    loaded = models.load(result.last_file)
    assert same(loaded.state_dict(), after[3]) == {"backbone", "rpn", "roi"}
    assert loaded.classes == ["cell", "disc"]
    for number in (1, 2, 3, 4):
        lines = (out / f"step{number}/metrics.jsonl").read_text().splitlines()
        logged = [line for line in map(json.loads, lines) if "loss" in line]
        assert ("loss_rpn_box_reg" in logged[0], "loss_box_reg" in logged[0]) == (number % 2 == 1, number % 2 == 0)
        losses = [line["loss"] for line in logged]
        assert len(losses) == 8
        assert number == 4 or sum(losses[-3:]) < 0.95 * sum(losses[:3]), (number, losses)  # step 4 has little to learn


@pytest.mark.slow
def test_losses_fall_in_every_step(tmp_path: Path) -> None:
    config = replace(QUICK, steps=24, learning_rate=3e-3, batch_size=3, out=str(tmp_path / "run"), checkpoint_minutes=9)
    train.fit_alternating(small(), dataset(tmp_path), None, config, quiet=True)
    for number in (1, 2, 3, 4):
        lines = (tmp_path / f"run/step{number}/metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line)["loss"] for line in lines]
        assert len(losses) == 24
        assert sum(losses[-4:]) < 0.85 * sum(losses[:4]), (number, losses)


class Stop(Exception):
    """Stands for anything that ends a run from outside."""


def test_a_run_resumes_in_any_step(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    through = small()
    train.fit_alternating(through, d, None, replace(QUICK, out=None), quiet=True)
    config = replace(QUICK, out=str(tmp_path / "run"))
    for stops in (2, 4, 2, 3):  # calls of the backbone in training mode until the next interruption
        model, calls = small(), 0
        if stops != 2:
            torch.nn.init.ones_(model.rpn.head.cls_logits.weight)  # the run's own initial weights count

        def count(module: torch.nn.Module, arguments: Any, stops: int = stops) -> None:
            nonlocal calls
            calls += module.training
            if calls > stops - 1:
                raise Stop

        model.backbone.register_forward_pre_hook(count)
        with pytest.raises(Stop):
            train.fit_alternating(model, d, None, config, quiet=True)
        config = replace(config, resume=True)
    resumed = small()
    result = train.fit_alternating(resumed, d, None, config, quiet=True)
    assert result.steps == 2
    assert same(dict(through.state_dict()), dict(resumed.state_dict())) == {"backbone", "rpn", "roi"}
    again = small()  # a run that is complete
    train.fit_alternating(again, d, None, config, quiet=True)
    assert same(dict(again.state_dict()), dict(resumed.state_dict())) == {"backbone", "rpn", "roi"}


def test_stages_alone_have_the_losses_of_joint_training() -> None:
    torch.manual_seed(3)
    model = small(roi={"width": 32, "samples": 4096, "positives": 1.0}).train()  # all proposals are samples
    images = [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in ((64, 80), (50, 60))]
    truth = [Targets(torch.tensor([[4.0, 4.0, 40.0, 30.0], [30.0, 20.0, 60.0, 44.0]]), torch.tensor([0, 1])),
             Targets(torch.tensor([[8.0, 8.0, 30.0, 30.0]]), torch.tensor([1]))]  # fmt: skip
    torch.manual_seed(1)
    joint = model(images, truth)
    torch.manual_seed(1)
    proposing = model.proposal_loss(images, truth)
    assert proposing.keys() == {"loss_objectness", "loss_rpn_box_reg"}
    proposals = model.training_proposals(images)
    detecting = model.detection_loss(images, truth, proposals)
    assert detecting.keys() == {"loss_classifier", "loss_box_reg"}
    for name, loss in (proposing | detecting).items():
        assert loss.item() == pytest.approx(joint[name].item(), rel=1e-4), name
    for boxes, image in zip(proposals, images, strict=True):
        assert 0 < len(boxes) <= 60
        assert (boxes[:, 2] <= image.shape[2] + 1e-3).all()
    empty = model.detection_loss(images, truth, [torch.zeros(0, 4)] * 2)  # the objects themselves are samples
    assert all(bool(loss.isfinite()) for loss in empty.values())


def test_proposals_follow_the_augmentation(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    proposals = [torch.tensor([[1.0, 2.0, 11.0, 12.0], [20.0, 5.0, 30.0, 29.0]])] * len(d)
    image, both = WithProposals(d, proposals, TinyDetector())[0]
    _, flipped = data.HorizontalFlip(1.0)(image, both, torch.Generator())
    (objects,), (moved,) = split([flipped])
    assert moved.tolist() == [[29.0, 2.0, 39.0, 12.0], [10.0, 5.0, 20.0, 29.0]]
    _, wanted = data.HorizontalFlip(1.0)(*d[0], torch.Generator())
    assert torch.equal(objects.boxes, wanted.boxes)
    assert torch.equal(objects.labels, wanted.labels)
    assert objects.crowd is not None
    assert not objects.crowd.any()


def test_data_sets_of_other_kinds_keep_their_labels(tmp_path: Path) -> None:
    """A data set whose classes are in another order than the model's is mapped once, not once per step."""
    d = dataset(tmp_path)

    class Reversed(torch.utils.data.Dataset):
        classes, category_ids = ["disc", "cell"], [5, 3]

        def __len__(self) -> int:
            return len(d)

        def __getitem__(self, index: int) -> tuple[Tensor, Targets]:
            image, targets = d[index]
            return image, replace(targets, labels=1 - targets.labels)

    model = small()
    model.classes, model.category_ids = ["cell", "disc"], [3, 5]
    seen: list[list[int]] = []
    for name in ("proposal_loss", "detection_loss"):
        method = getattr(model, name)
        setattr(model, name, lambda i, t, *p, m=method: seen.extend(o.labels.tolist() for o in t) or m(i, t, *p))
    config = replace(QUICK, out=None, steps=1, batch_size=6, augment=())
    train.fit_alternating(model, Reversed(), None, config, quiet=True)
    assert len(seen) == 4 * 6
    assert sorted(map(tuple, seen)) == sorted([tuple(d.targets(i).labels.tolist()) for i in range(6)] * 4)


def test_vgg16_with_roi_pool_trains_in_four_steps(tmp_path: Path) -> None:
    """The paper's model, with fewer neurons and smaller images, by its recipe on the stages' own settings."""
    torch.manual_seed(0)
    model = models.build("faster_rcnn_vgg16", num_classes=2, min_size=64, max_size=96,
                         rpn={"sizes": ((16, 32, 48),), "min_size": 2, "after_nms": (50, 20)},
                         roi={"width": 16, "samples": 64})  # fmt: skip
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stages = [replace(s, steps=1, out=None, workers=0) for s in train.recipes.CATALOG["paper_vgg16_alternating"].stages]
    train.fit_alternating(model, dataset(tmp_path), None, stages, quiet=True)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not [n for n in changed if n.startswith(("backbone.body.features.0.", "backbone.body.features.5."))]
    assert "backbone.body.features.28.weight" in changed
    assert {"rpn.head.conv.0.weight", "roi.head.fc6.weight"} <= changed


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    with pytest.raises(InputError, match="model must be a Faster R-CNN, got TinyDetector"):
        train.fit_alternating(TinyDetector(), d, None, QUICK)
    with pytest.raises(InputError, match="configs must be one TrainConfig or 4, got 2"):
        train.fit_alternating(small(), d, None, [QUICK, QUICK])
    out = tmp_path / "run"
    config = replace(QUICK, steps=1, out=str(out))
    with pytest.raises(InputError, match=r"resume must be False, got True: there is no .*alternating\.json"):
        train.fit_alternating(small(), d, None, replace(config, resume=True), quiet=True)
    out.mkdir()
    (out / "alternating.json").write_text(json.dumps({"step": 1, "runs": []}))
    with pytest.raises(InputError, match=r"out must be a folder without a run, got .*alternating\.json; resume=True"):
        train.fit_alternating(small(), d, None, config, quiet=True)
    with pytest.raises(InputError, match="resume must find the same run"):
        train.fit_alternating(small(), d, None, replace(config, resume=True), quiet=True)
    assert not (out / "weights0.pt").exists()
