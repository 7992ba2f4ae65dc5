"""The same weights as training programs write them: below keys and prefixes, beside other weights and objects."""

from __future__ import annotations

import argparse
import copy
import datetime
import functools
import json
import os
import pickle
import random
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from pyrcnn import InputError, checkpoints, models
from tests.checkpoints.test_detectron2 import Evil, detectron2s
from tests.checkpoints.test_torchvision import build, same, torchvisions

State = dict[str, Tensor]
BOXES = "faster_rcnn_mobilenet_v2_fpn"
SMALL: dict[str, dict[str, Any]] = {
    BOXES: {"num_classes": 2, "fpn_channels": 8, "roi": {"width": 8}},
    "centernet_mobilenet_v2_fpn_512": {"num_classes": 3, "input_size": 64},
}


@functools.lru_cache
def trained(name: str = BOXES) -> nn.Module:
    return build(name, **SMALL[name])


def fresh(name: str = BOXES) -> nn.Module:
    """A model with other weights."""
    model = copy.deepcopy(trained(name))
    with torch.no_grad():
        for value in model.state_dict().values():
            value.zero_()
    return model


def below(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


class Lightning(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.detector = model
        self.metric = nn.Linear(2, 2)


WRAPPERS: dict[str, Any] = {
    "plain": lambda m, s: s,
    "parallel": lambda m, s: nn.DataParallel(m).state_dict(),
    "compiled": lambda m, s: torch.compile(m).state_dict(),
    "compiled and parallel": lambda m, s: nn.DataParallel(torch.compile(m)).state_dict(),  # type: ignore[arg-type]
    "parallel and compiled": lambda m, s: torch.compile(nn.DataParallel(m)).state_dict(),
    "averaged": lambda m, s: AveragedModel(m).state_dict(),
    "lightning": lambda m, s: {"state_dict": Lightning(m).state_dict(), "epoch": 3, "hparams_name": "kwargs"},
    "lightning, compiled": lambda m, s: {"state_dict": below("net._orig_mod.", s)},
    "parts compiled": lambda m, s: {
        name.replace("body.", "body._orig_mod.").replace("rpn.", "rpn.module."): value for name, value in s.items()
    },
    "three keys": lambda m, s: {"checkpoint": {"student": {"weights": below("module.", s)}}},
    "a list": lambda m, s: {"models": [s]},
    "a list of pairs": lambda m, s: {"parameters": list(s.items())},
    "parts": lambda m, s: {
        part: {name.removeprefix(f"{part}."): value for name, value in s.items() if name.startswith(part)}
        for part in {name.partition(".")[0]: None for name in s}
    },
    "besides an optimizer": lambda m, s: {**s, "optimizer": torch.optim.Adam(m.parameters()).state_dict()},
    **{
        key: lambda m, s, key=key: {key: s, "epoch": 3}
        for key in ("model", "state_dict", "model_state_dict", "net", "weights", "ema", "model_ema", "params", "🙂")
    },
}


@pytest.mark.parametrize(
    ("wrapper", "name"), [*((wrapper, BOXES) for wrapper in WRAPPERS), *(("lightning", name) for name in SMALL)]
)
def test_the_weights_are_found(wrapper: str, name: str) -> None:
    model = trained(name)
    other = fresh(name)
    report = checkpoints.load(other, WRAPPERS[wrapper](model, dict(model.state_dict())))
    assert same(model, other)
    assert (report.missing, report.unexpected, report.reshaped, report.notes) == ((), (), (), ())


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("wrapper", ["plain", "averaged", "lightning", "three keys", "parts"])
def test_the_weights_are_found_in_files(wrapper: str, form: str, tmp_path: Path) -> None:
    model, file = trained(), tmp_path / "w.pth"
    content = WRAPPERS[wrapper](model, dict(model.state_dict()))
    if form == "pickle":
        arrays = {name: value.numpy() for name, value in model.state_dict().items()}
        file.write_bytes(pickle.dumps(WRAPPERS[wrapper](model, arrays) if wrapper == "three keys" else arrays))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    other = fresh()
    report = checkpoints.load(other, file)
    assert same(model, other)
    assert (report.unexpected, report.notes) == ((), ())


@pytest.mark.parametrize("names", [torchvisions, detectron2s])
@pytest.mark.parametrize("wrapper", ["compiled", "ema", "lightning, compiled"])
def test_foreign_names_are_found_too(names: Any, wrapper: str, tmp_path: Path) -> None:
    preset = "faster_rcnn_resnet50_fpn" + ("_detectron2" if names is detectron2s else "")
    changes = {"num_classes": 3, "fpn_channels": 8, "roi": {"width": 16}}
    model = build(preset, **changes)
    given = names(model)
    wrapped = below("_orig_mod.", given) if wrapper == "compiled" else WRAPPERS[wrapper](model, given)
    other, report = checkpoints.build(preset, wrapped, **{k: v for k, v in changes.items() if k != "num_classes"})
    assert same(model, other)
    assert (report.missing, report.unexpected, report.notes) == ((), (), ())
    save_file(below("module.", given), tmp_path / "w.safetensors")
    other = models.build(preset, **changes)
    assert checkpoints.load(other, tmp_path / "w.safetensors").notes == ()
    assert same(model, other)


def shifted(state: State) -> State:
    return {name: value + 1 if value.is_floating_point() else value for name, value in state.items()}


SEVERAL: dict[str, Any] = {  # the content, and the key whose weights are taken
    "an average goes first": (lambda s: {"model": shifted(s), "model_ema": s}, "model_ema"),
    "wherever it stands": (lambda s: {"ema_state_dict": s, "state_dict": shifted(s)}, "ema_state_dict"),
    "then the first": (lambda s: {"best": s, "last": shifted(s)}, "best"),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_of_several_weights_one_is_taken_and_named(case: str) -> None:
    make, key = SEVERAL[case]
    other = fresh()
    report = checkpoints.load(other, make(dict(trained().state_dict())))
    assert same(trained(), other)
    (note,) = report.notes
    assert f"the weights are those of '{key}'" in note
    assert "would fit too" in note


def test_what_lacks_entries_is_not_taken() -> None:
    state = dict(trained().state_dict())
    parameters = {name: value + 1 for name, value in trained().named_parameters()}
    deeper = shifted(state) | {"backbone.body.features.extra.weight": torch.zeros(2)}
    for content in ({"ema": parameters, "model": state}, {"teacher": deeper, "student": state}):
        other = fresh()
        checkpoints.load(other, content)
        assert same(trained(), other)


class Settings:
    """A class of the training program."""

    def __init__(self) -> None:
        self.rate, self.schedule = 0.1, [1, 2]


def besides() -> dict[str, Any]:
    optimizer = torch.optim.SGD(trained().parameters(), 0.1, momentum=0.9)
    return {
        "args": argparse.Namespace(lr=0.02, out=Path("runs")),
        "numpy": {"best": np.float64(0.5), "epoch": np.int64(3), "array": np.arange(5), "text": np.array(["a"])},
        "objects": np.array([{}, None], object),
        "path": Path("x"),
        "date": datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
        "ordered": OrderedDict(a=1),
        "counts": defaultdict(list, a=[1]),
        "set": {1, 2},
        "frozen": {frozenset({1}): (1, (2, 3))},
        "class": Settings(),
        "classes": [Settings, os.path.join, torch.float16, torch.device("cpu"), complex(1, 2)],
        "sampler": random.Random(0).getstate(),
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2).state_dict(),
        "slices": [slice(1, 2), range(3), bytearray(b"x"), 2**200],
        "sparse": torch.eye(3).to_sparse(),
        "complex": nn.Parameter(torch.ones(2, dtype=torch.complex64)),
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_beside_the_weights(zipped: bool, tmp_path: Path) -> None:
    torch.save({**besides(), "model": trained().state_dict()}, tmp_path / "all.pth",
               _use_new_zipfile_serialization=zipped)  # fmt: skip
    other = fresh()
    checkpoints.load(other, tmp_path / "all.pth")
    assert same(trained(), other)


@pytest.mark.parametrize("key", sorted(besides()))
@pytest.mark.parametrize("protocol", [2, 4])
def test_each_object_beside_the_weights(key: str, protocol: int, tmp_path: Path) -> None:
    small = {"stem.conv1.weight": torch.ones(4, 3)}
    torch.save({key: besides()[key], "model": small}, tmp_path / "one.pth", pickle_protocol=protocol)
    found = checkpoints.reading.pickles.entries(tmp_path / "one.pth")
    assert [entry.value.resolve().sum() for entry in found if entry.name == "model.stem.conv1.weight"] == [12]


def test_the_items_of_python_2_are_an_argument(tmp_path: Path) -> None:
    pairs = [[name, value.numpy()] for name, value in trained().state_dict().items()]
    (tmp_path / "old.pkl").write_bytes(pickle.dumps({"state_dict": Evil(OrderedDict, pairs)}, 2))
    other = fresh()
    checkpoints.load(other, tmp_path / "old.pkl")
    assert same(trained(), other)


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel, AveragedModel])
def test_a_whole_model_is_read_without_its_code(wrap: Any, tmp_path: Path) -> None:
    torch.save({"model": wrap(copy.deepcopy(trained())), "epoch": 1}, tmp_path / "whole.pth")
    other = fresh()
    checkpoints.load(other, tmp_path / "whole.pth")
    assert same(trained(), other)


def test_nothing_beside_the_weights_is_executed(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    attacks = [
        Evil(os.system, f"touch {proof}"),
        Evil(exec, f"open({str(proof)!r}, 'w')"),
        Evil(open, str(proof), "w"),
        Evil(functools.partial, open, str(proof), "w"),
        Evil(Path.touch, proof),
        Evil(torch.load, str(proof)),
    ]
    for at, attack in enumerate(attacks):
        for form in ("zip", "legacy", "pickle"):
            file, state = tmp_path / f"{at}.pth", trained().state_dict()
            content = {"before": attack, "model": state, "after": [attack]}
            if form == "pickle":
                content["model"] = {name: value.numpy() for name, value in state.items()}  # type: ignore[assignment]
                file.write_bytes(pickle.dumps(content))
            else:
                torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
            entries = checkpoints.reading.pickles.entries(file)
            assert len(entries) == len(state)
    checkpoints.load(other := fresh(), file)
    assert same(trained(), other)
    assert not proof.exists()


def test_obstacles_are_named_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    with pytest.raises(InputError, match=r"w\.pth .* TorchScript program.*: save model\.state_dict\(\)"):
        checkpoints.load(fresh(), file)
    torch.save({"a": Settings(), "b": "\x1b[1m"}, file)
    with pytest.raises(InputError, match=r"w\.pth .* no named tensors, but tests\.checkpoints\..*\.Settings"):
        checkpoints.load(fresh(), file)
    state = dict(trained().state_dict())
    name = next(iter(state))
    torch.save(state | {name: state[name].to_sparse()}, file)
    with pytest.raises(InputError, match=rf"lacks {name}") as caught:
        checkpoints.load(fresh(), file)
    assert "weights_only" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_damage_is_found_by_checksum(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save(trained().state_dict(), file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"w\.pth is damaged .* the checksum of storage \d+ does not match"):
        checkpoints.load(fresh(), file)


# ---- several files -------------------------------------------------------------------------------------------------


def shards(folder: Path, state: State, kind: str) -> Path:
    """The state in three files with an index, as large models are published; returns the index."""
    stem, suffix = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    names: dict[str, str] = {}
    for part in range(3):
        file = f"{stem}-{part + 1:05d}-of-00003.{suffix}"
        content = dict(list(state.items())[part::3])
        (save_file if kind == "safetensors" else torch.save)(content, folder / file)
        names |= dict.fromkeys(content, file)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}))
    return index


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: below("model.", s)])
def test_weights_in_several_files(kind: str, wrap: Any, tmp_path: Path) -> None:
    index = shards(tmp_path, wrap(dict(trained().state_dict())), kind)
    other = fresh()
    report = checkpoints.load(other, index)
    assert same(trained(), other)
    assert report.source == str(index)
    next(tmp_path.glob("*00002-of*")).unlink()
    with pytest.raises(InputError, match=r"no such file: .*00002-of"):
        checkpoints.load(other, index)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("[]", "must have a weight_map"),
        ('{"weight_map": {}}', "must have a weight_map"),
        ('{"weight_map": {"a": 3}}', "must have a weight_map"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "is no file beside it"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "is no file beside it"),
        ('{"weight_map": {"a": ".."}}', "is no file beside it"),
        ('{"weight_map": {"a": "x.safetensors"}}', "no such file"),
        ('{"weight_map": ' + "[" * 100_000, "is damaged"),
        ("{", "is damaged"),
    ],
)
def test_a_wrong_index_is_refused(index: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match=message):
        checkpoints.load(fresh(), tmp_path / "model.safetensors.index.json")
