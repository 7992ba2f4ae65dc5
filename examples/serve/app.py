"""A detector behind HTTP, with FastAPI: requests that come together run as one batch.

    pip install fastapi uvicorn python-multipart
    uvicorn --app-dir examples/serve app:app --port 8000
    curl -F image=@photo.jpg localhost:8000/detect

Environment variables: ``MODEL`` (a name, a file, or hf://owner/name), ``BATCH`` (the most images of a call; 1: no
batches), ``WAIT_MS`` (how long the first request of a batch waits for others), ``MOST_BYTES`` of an upload,
``MOST_WAITING`` requests, and ``THREADS``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

import torch
from fastapi import FastAPI, HTTPException, Request, UploadFile
from fastapi.responses import JSONResponse

import pyrcnn
from pyrcnn import InputError, deploy, images

MODEL = os.environ.get("MODEL", "centernet_mobilenet_v2_fpn_512")
BATCH = int(os.environ.get("BATCH", "8"))
WAIT = float(os.environ.get("WAIT_MS", "0")) / 1e3
MOST_BYTES = int(os.environ.get("MOST_BYTES", str(10 << 20)))
MOST_WAITING = int(os.environ.get("MOST_WAITING", "64"))
SCORE = 0.3


class Batches:
    """Runs a model in one thread, on all images that have come while it was busy."""

    def __init__(self, model: Any, most: int = BATCH, wait: float = WAIT):
        self.model, self.most, self.wait = model, most, wait
        self.sizes: dict[int, int] = {}  # images of a call → calls
        self._queue: asyncio.Queue[tuple[torch.Tensor, asyncio.Future]] = asyncio.Queue(MOST_WAITING)
        self._thread = ThreadPoolExecutor(1)

    async def __call__(self, image: torch.Tensor) -> pyrcnn.Detections:
        """Return the detections in an image [3, H, W]. Raises ``asyncio.QueueFull`` if too many wait."""
        result: asyncio.Future = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((image, result))
        return await result

    async def run(self) -> None:
        """Take what waits, again and again, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            waiting = [await self._queue.get()]
            if self.wait and self.most > 1:
                await asyncio.sleep(self.wait)
            while len(waiting) < self.most and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            waiting = [(image, result) for image, result in waiting if not result.done()]  # clients that left
            if not waiting:
                continue
            self.sizes[len(waiting)] = self.sizes.get(len(waiting), 0) + 1
            try:
                found = await loop.run_in_executor(self._thread, self._detect, [image for image, _ in waiting])
            except Exception as error:
                for _, result in waiting:
                    if not result.done():
                        result.set_exception(error)
                continue
            for (_, result), detections in zip(waiting, found, strict=True):
                if not result.done():
                    result.set_result(detections)

    def _detect(self, batch: list[torch.Tensor]) -> list[pyrcnn.Detections]:
        with torch.inference_mode():
            return self.model(batch)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load and optimize the model, and run batches as long as the server does."""
    if os.environ.get("THREADS"):
        torch.set_num_threads(int(os.environ["THREADS"]))
    model = pyrcnn.load_model(MODEL)
    app.state.classes = model.classes
    app.state.batches = Batches(deploy.optimize(model))
    task = asyncio.create_task(app.state.batches.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


app = FastAPI(lifespan=lifespan)


@app.exception_handler(InputError)
async def bad_input(request: Request, error: InputError) -> JSONResponse:
    """Answer what pyrcnn refuses with its line."""
    return JSONResponse({"detail": str(error)}, 400)


@app.middleware("http")
async def limited(request: Request, call_next: Any) -> Any:
    """Refuse a request by its announced length before its body is read; one without a length is refused too."""
    if request.method == "POST":
        length = request.headers.get("content-length", "")
        if not length.isdecimal():
            return JSONResponse({"detail": "Content-Length must be given"}, 411)
        if int(length) > MOST_BYTES:
            return JSONResponse({"detail": f"the request must have at most {MOST_BYTES} bytes, got {length}"}, 413)
    return await call_next(request)


@app.get("/health")
async def health(request: Request) -> dict[str, Any]:
    """Tell that the model is loaded, and how many images the calls had."""
    return {"status": "ok", "model": MODEL, "classes": request.app.state.classes,
            "batches": request.app.state.batches.sizes}  # fmt: skip


@app.post("/detect")
async def detect(request: Request, image: UploadFile, score: float = SCORE) -> dict[str, Any]:
    """Detect in one uploaded image."""
    pixels = await asyncio.get_running_loop().run_in_executor(None, images.load_image, await image.read())
    try:
        found = await request.app.state.batches(pixels)
    except asyncio.QueueFull:
        raise HTTPException(503, "too many requests wait: try again", {"Retry-After": "1"}) from None
    found = found[found.scores > score]
    classes = request.app.state.classes
    return {
        "height": pixels.shape[1], "width": pixels.shape[2],
        "detections": [
            {"label": classes[label], "score": round(one, 4), "box": [round(v, 2) for v in box]}
            for label, one, box in zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        ],
    }  # fmt: skip
