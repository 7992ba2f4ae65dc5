"""The programs in ``examples/``: a server, SAHI and Ultralytics with our models and operators."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import pyrcnn
from pyrcnn import Detections
from pyrcnn.checkpoints import bundled
from tests.images import made

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{Path(path).stem}", EXAMPLES / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # FastAPI looks up annotations there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def serve() -> ModuleType:
    pytest.importorskip("fastapi")
    pytest.importorskip("python_multipart")
    pytest.importorskip("httpx")
    return example("serve/app.py")


class Slow:
    """Returns one box as high and wide as its image, and notes the sizes of its calls."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.threads: set[int] = set()

    def __call__(self, batch: list[torch.Tensor]) -> list[Detections]:
        self.calls.append(len(batch))
        self.threads.add(threading.get_ident())
        time.sleep(0.05)
        if any(image.shape[2] == 13 for image in batch):
            raise RuntimeError("a broken model")
        return [
            Detections(torch.tensor([[0.0, 0.0, image.shape[2], image.shape[1]]]), torch.ones(1), torch.zeros(1).long())
            for image in batch
        ]


def test_the_server_answers_as_the_model_does(serve: ModuleType) -> None:
    from fastapi.testclient import TestClient

    content = bundled.images()[0].read_bytes()
    wanted = pyrcnn.load_model(serve.MODEL)([content])[0]
    wanted = wanted[wanted.scores > 0.3]
    middle = wanted.scores.mean().item()
    with TestClient(serve.app) as client:
        found = client.post("/detect", files={"image": content}).json()
        health = client.get("/health").json()
        strict = client.post("/detect", params={"score": middle}, files={"image": content}).json()
        none = client.post("/detect", files={"image": b"no image"})
        half = client.post("/detect", files={"image": content[:5000]})
        script = client.post("/detect", files={"image": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"})
        nothing = client.post("/detect")
        large = client.post("/detect", files={"image": bytes(serve.MOST_BYTES + 1)})
        unknown = client.post("/detect", content=(part for part in [b"a"]))
    assert (found["height"], found["width"]) == (480, 640)
    assert len(found["detections"]) == len(wanted) > 5
    for one, box, score in zip(found["detections"], wanted.boxes.tolist(), wanted.scores.tolist(), strict=True):
        assert one["box"] == pytest.approx(box, abs=0.1)
        assert one["score"] == pytest.approx(score, abs=1e-3)
    assert 0 < len(strict["detections"]) < len(wanted)
    assert health == {"status": "ok", "model": serve.MODEL, "classes": ["RBC", "WBC", "Platelets"], "batches": {"1": 1}}
    for answer, reason in ((none, "not an image"), (half, "damaged"), (script, "not an image")):
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("images: cannot read bytes: ")
        assert reason in answer.json()["detail"]
    assert (nothing.status_code, large.status_code, unknown.status_code) == (422, 413, 411)


def test_requests_that_come_together_run_as_batches(serve: ModuleType) -> None:
    async def requests() -> list[Any]:
        batches = serve.Batches(model, most=4)
        task = asyncio.create_task(batches.run())
        calls = [asyncio.create_task(batches(torch.zeros(3, 8, width))) for width in range(1, 11)]
        await asyncio.sleep(0)
        calls[9].cancel()  # a client that leaves
        found = await asyncio.gather(*calls, return_exceptions=True)
        broken = await asyncio.gather(batches(torch.zeros(3, 8, 13)), return_exceptions=True)
        after = await batches(torch.zeros(3, 8, 5))
        task.cancel()
        return [*found[:9], *broken, after]

    model = Slow()
    *found, broken, after = asyncio.run(requests())
    assert [detections.boxes[0, 2].item() for detections in found] == list(range(1, 10))
    assert sum(model.calls) == 9 + 2
    assert len(model.calls) <= 6
    assert max(model.calls) == 4
    assert len(model.threads) == 1
    assert isinstance(broken, RuntimeError)
    assert after.boxes[0, 2].item() == 5


def test_too_many_requests_are_refused(serve: ModuleType) -> None:
    async def requests() -> list[Any]:
        batches = serve.Batches(Slow(), most=4)
        task = asyncio.create_task(batches.run())
        calls = (batches(torch.zeros(3, 8, 8)) for _ in range(serve.MOST_WAITING + 20))
        found = await asyncio.gather(*calls, return_exceptions=True)
        task.cancel()
        return found

    found = asyncio.run(requests())
    refused = sum(isinstance(one, asyncio.QueueFull) for one in found)
    assert refused == 20
    assert sum(isinstance(one, Detections) for one in found) == serve.MOST_WAITING


def test_the_load_client_counts_requests(serve: ModuleType) -> None:
    uvicorn = pytest.importorskip("uvicorn")
    client = example("serve/client.py")
    server = uvicorn.Server(uvicorn.Config(serve.app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        result = asyncio.run(client.load(address, bundled.images()[0].read_bytes(), 3, 9))
    finally:
        server.should_exit = True
        thread.join()
    assert result["codes"] == {200: 9}
    assert sum(int(size) * calls for size, calls in result["batches"].items()) == 10
    assert 0 < result["p50_ms"] <= result["p99_ms"]


def test_sahi_slices_with_our_model() -> None:
    pytest.importorskip("sahi")
    module = example("sahi_model.py")
    from sahi.predict import get_prediction, get_sliced_prediction

    model = pyrcnn.load_model("centernet_mobilenet_v2_fpn_512")
    detector = module.SahiModel(model=model, confidence_threshold=0.5, device="cpu")
    image = str(bundled.images()[0])
    whole = get_prediction(image, detector).object_prediction_list
    wanted = model([image])[0]
    wanted = wanted[wanted.scores > 0.5]
    assert [one.category.name for one in whole] == [model.classes[label] for label in wanted.labels]
    for one, box in zip(whole, wanted.boxes.tolist(), strict=True):
        assert one.bbox.to_xyxy() == pytest.approx([max(0, v) for v in box], abs=1)
    found = {}
    for size in (1, 3):
        sliced = get_sliced_prediction(image, detector, slice_height=300, slice_width=300, batch_size=size, verbose=0)
        found[size] = sorted(
            (one.category.name, *map(round, one.bbox.to_xyxy())) for one in sliced.object_prediction_list
        )
    assert found[1] == found[3]
    cell = max(whole, key=lambda one: one.score.value)
    assert any(name == cell.category.name and abs(x1 - cell.bbox.minx) < 12 for name, x1, *_ in found[1])


def test_models_take_the_bytes_of_image_files() -> None:
    for content in made.one_of_each().values():
        assert pyrcnn.images.load_image(content).shape[0] == 3
