"""TensorFlow checkpoints: read without TensorFlow, refused when damaged.

The index files and object graphs here were written by TensorFlow; the data files are rebuilt from the reference weights
at the offsets that the index tells. TensorFlow's own checksums then say whether every byte is as it was.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch

from pyrcnn import InputError, checkpoints, models
from pyrcnn.checkpoints.formats.tensor_bundle import GRAPH_KEY, TensorBundle
from tests.models.parity.tf_weights import fixture, kernel, weights

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def write_checkpoint(folder: Path, name: str) -> Path:
    """TensorFlow's checkpoint of a reference model; returns its prefix."""
    written, small = fixture("tf_checkpoints"), fixture(f"{name}_vec")
    prefix = folder / "ckpt-0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ckpt-0.index").write_bytes(written[f"{name}:index"].tobytes())
    (folder / "ckpt-0.data-00000-of-00001").touch()
    bundle = TensorBundle(prefix)
    data = bytearray()
    for key in sorted(bundle.keys(), key=lambda k: bundle.location(k)[1]):
        if key == GRAPH_KEY:
            content = written[f"{name}:graph"].tobytes()
        elif key.startswith("save_counter"):
            content = written[f"{name}:save_counter"].tobytes()
        else:
            plain, shape = key.removesuffix(SUFFIX), bundle.shape(key)
            content = (small[plain] if len(shape) < 2 else kernel(plain, shape, small)).tobytes()
        assert bundle.location(key)[1:] == (len(data), len(content))
        data += content
    (folder / "ckpt-0.data-00000-of-00001").write_bytes(data)
    return prefix


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tf") / "checkpoint", "mbv2_od")


@pytest.fixture
def model() -> torch.nn.Module:
    return models.build("centernet_mobilenet_v2_fpn_512").eval()


def zoo_archive(prefix: Path, target: Path) -> Path:
    """As the zoo packs it: below a folder of the model's name, with a SavedModel beside the checkpoint."""
    top = "centernet_mobilenetv2_fpn_od"
    with tarfile.open(target, "w:gz") as tar:
        for file in sorted(prefix.parent.iterdir()):
            tar.add(file, f"{top}/checkpoint/{file.name}")
        for suffix in (".data-00000-of-00001", ".index"):
            tar.add(__file__, f"{top}/saved_model/variables/variables{suffix}")
        tar.add(__file__, f"{top}/pipeline.config")
    return target


def test_every_checksum_of_tensorflow_matches(prefix: Path) -> None:
    bundle = TensorBundle(prefix)
    assert len(bundle.keys()) == 306
    for key in bundle.keys():  # noqa: SIM118
        assert bundle[key].shape == bundle.shape(key)


@pytest.mark.parametrize("form", ["prefix", "folder", "parent", "index", "archive"])
def test_every_form_of_the_source(form: str, prefix: Path, model: torch.nn.Module, tmp_path: Path) -> None:
    sources = {
        "prefix": lambda: prefix,
        "folder": lambda: prefix.parent,
        "parent": lambda: prefix.parent.parent,
        "index": lambda: prefix.with_name("ckpt-0.index"),
        "archive": lambda: zoo_archive(prefix, tmp_path / "zoo.tar.gz"),
    }
    report = checkpoints.load(model, sources[form]())
    assert not report.missing or all("num_batches" in name for name in report.missing)
    assert report.unexpected == ()


def test_an_image_gives_tensorflows_maps_and_detections(prefix: Path, model: torch.nn.Module) -> None:
    """The whole way: a checkpoint on disk and a uint8 image to boxes in the image's pixels."""
    checkpoints.load(model, prefix)
    want = {key: torch.from_numpy(value) for key, value in fixture("mbv2_od_image").items()}
    image = want["image"].permute(2, 0, 1)
    pixels, sizes, _ = model.preprocess([image])
    assert sizes[0].tolist() == want["true_image_shape"][:2].tolist()
    with torch.no_grad():
        maps = model.heads(pixels)
        found = model([image])[0]
    for ours, theirs in (("heatmap", "object_center"), ("size", "box/scale"), ("offset", "box/offset")):
        expected = want[f"head:{theirs}"].permute(2, 0, 1)  # every fourth cell
        assert (maps[ours][0, :, ::4, ::4] - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert len(found) == int(want["post:num_detections"])
    assert found.labels.tolist() == want["post:detection_classes"].long().tolist()
    torch.testing.assert_close(found.scores, want["post:detection_scores"], rtol=0, atol=1e-4)
    y1, x1, y2, x2 = (want["post:detection_boxes"] * torch.tensor([300.0, 427.0, 300.0, 427.0])).unbind(1)
    assert (found.boxes - torch.stack([x1, y1, x2, y2], 1)).abs().max() <= 0.01


def test_an_hourglass_checkpoint(tmp_path: Path) -> None:
    prefix = write_checkpoint(tmp_path, "hg104tiny_kpts")
    model = models.build("centernet_hg104_512_kpts", stem=8, dims=(16, 16, 24, 24, 24, 32))
    report = checkpoints.load(model, prefix)
    assert report.unexpected == ()


def test_a_dict_of_arrays(prefix: Path, model: torch.nn.Module) -> None:
    bundle = TensorBundle(prefix)
    arrays = {key: bundle[key] for key in bundle.keys() if key.startswith("model/")}  # noqa: SIM118
    without_suffix = {key.removesuffix(SUFFIX): value for key, value in arrays.items()}
    checkpoints.load(model, arrays)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoints.load(model, without_suffix)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_one_flipped_bit_is_found(prefix: Path, model: torch.nn.Module, tmp_path: Path) -> None:
    for file in prefix.parent.iterdir():
        content = bytearray(file.read_bytes())
        if ".data-" in file.name:
            content[len(content) // 2] ^= 1
        (tmp_path / file.name).write_bytes(content)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match="checksum of model/"):
        checkpoints.load(model, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("at", range(0, 20000, 1777))
def test_a_damaged_index_is_refused(at: int, prefix: Path, tmp_path: Path) -> None:
    content = bytearray(prefix.with_name("ckpt-0.index").read_bytes())
    content[at] ^= 0x40
    (tmp_path / "ckpt-0.index").write_bytes(content)
    with pytest.raises(InputError, match=r"ckpt-0\.index"):
        TensorBundle(tmp_path / "ckpt-0")


@pytest.mark.parametrize("keep", [0, 10, 47, 48, 1000, 20000])
def test_a_truncated_index_is_refused(keep: int, prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "ckpt-0.index").write_bytes(prefix.with_name("ckpt-0.index").read_bytes()[:keep])
    with pytest.raises(InputError, match=r"ckpt-0\.index"):
        TensorBundle(tmp_path / "ckpt-0")


def test_truncated_data_is_refused(prefix: Path, model: torch.nn.Module, tmp_path: Path) -> None:
    for file in prefix.parent.iterdir():
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(content[: len(content) // 2] if ".data-" in file.name else content)
    with pytest.raises(InputError, match="truncated"):
        checkpoints.load(model, tmp_path)


def test_a_truncated_archive_is_refused(prefix: Path, model: torch.nn.Module, tmp_path: Path) -> None:
    archive = zoo_archive(prefix, tmp_path / "zoo.tar.gz")
    archive.write_bytes(archive.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"zoo\.tar\.gz"):
        checkpoints.load(model, archive)


def test_paths_in_an_archive_are_not_followed(prefix: Path, model: torch.nn.Module, tmp_path: Path) -> None:
    archive = tmp_path / "zoo.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for file in prefix.parent.iterdir():
            tar.add(file, f"../../escaped/{file.name}")
    checkpoints.load(model, archive)
    assert not list(tmp_path.rglob("escaped"))
    assert not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize("form", ["prefix", "archive"])
def test_another_models_checkpoint_is_refused(form: str, prefix: Path, tmp_path: Path) -> None:
    source = prefix if form == "prefix" else zoo_archive(prefix, tmp_path / "zoo.tar.gz")
    with torch.device("meta"):
        model = models.build("centernet_resnet50_v2_512")
    with pytest.raises(InputError, match=r"lacks .*; it fits centernet_mobilenet_v2_fpn_512$"):
        checkpoints.load(model, source)


def test_the_last_of_several_checkpoints(prefix: Path, tmp_path: Path) -> None:
    for step in (9, 301, 30):
        for file in prefix.parent.iterdir():
            name = file.name.replace("ckpt-0", f"ckpt-{step}")
            (tmp_path / name).write_bytes(file.read_bytes() if step == 301 else b"")
    checkpoints.load(models.build("centernet_mobilenet_v2_fpn_512"), tmp_path)


def test_another_class_count(prefix: Path) -> None:
    model = models.build("centernet_mobilenet_v2_fpn_512", num_classes=3)
    with pytest.raises(InputError, match=r"heatmap.*new_heads=True"):
        checkpoints.load(model, prefix)
    report = checkpoints.load(model, prefix, new_heads=True)
    assert sorted(report.reshaped) == ["head.heatmap.0.out.bias", "head.heatmap.0.out.weight"]


def test_the_class_count_comes_from_the_checkpoint() -> None:
    arrays = weights("mbv2_od")
    head = "model/_prediction_head_dict/object_center/0/layer_with_weights-1"
    three = arrays | {f"{head}/kernel": arrays[f"{head}/kernel"][..., :3], f"{head}/bias": arrays[f"{head}/bias"][:3]}
    for given, count in ((three, 3), (arrays, 90)):
        model, report = checkpoints.build("centernet_mobilenet_v2_fpn_512", given, input_size=128)
        assert (model.config.num_classes, model.config.input_size, len(model.classes)) == (count, 128, count)
        assert (report.missing, report.reshaped) == ((), ())
    with pytest.raises(InputError, match=r"other shapes: head\.heatmap"):
        checkpoints.build("centernet_mobilenet_v2_fpn_512", three, num_classes=90)
