"""OpenVINO: networks converted from ``torch.export`` programs."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from ...models.detector import Detector
from ..machine import machine
from .base import Options, Run
from .portable import PortableEngine, ResultShapes

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVino(PortableEngine):
    """Networks as OpenVINO programs for the CPU. With bfloat16 their inputs and results are still float32."""

    name = "openvino"
    packages = ("openvino",)

    @classmethod
    def refusal(cls, model: Detector, options: Options) -> str | None:
        """Also refuses float16, and bfloat16 on processors without it."""
        if options.dtype not in PRECISIONS:
            return f"dtype must be torch.float32 or torch.bfloat16 for engine openvino, got {options.dtype}"
        if options.dtype == torch.bfloat16 and not machine().bfloat16:
            return "dtype must be torch.float32 for engine openvino on a processor without bfloat16, got torch.bfloat16"
        return super().refusal(model, options)

    def convert(self, graph: fx.GraphModule, example: Tensor, results: list[torch.Size]) -> Any:
        """A compiled model that takes and returns feature maps in NCHW."""
        import openvino

        program = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.options.dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        return openvino.Core().compile_model(openvino.convert_model(program), "CPU", settings)

    def runner(self, program: Any, shapes: ResultShapes) -> Run:
        """Runs requests, one per concurrent call."""
        return _Requests(program, shapes)


class _Requests:
    """Calls of a compiled model from any number of threads. Tensors share their memory with OpenVINO."""

    def __init__(self, compiled: Any, shapes: ResultShapes):
        self.compiled, self.shapes = compiled, shapes
        self.idle: list[Any] = []
        self.lock = threading.Lock()

    def __call__(self, x: Tensor) -> Any:
        import openvino

        def shared(t: Tensor) -> Any:
            return openvino.Tensor(t.numpy(), shared_memory=True)

        x = x.detach().float().contiguous()
        shapes, structure = self.shapes(tuple(x.shape))
        results = [torch.empty(shape) for shape in shapes]
        if x.numel() == 0:
            return pytree.tree_unflatten(results, structure)
        with self.lock:
            request = self.idle.pop() if self.idle else None
        request = request or self.compiled.create_infer_request()
        # Without references of their own the requests must get every tensor anew.
        tensors = [shared(t) for t in (x, *results)]
        request.set_input_tensor(0, tensors[0])
        for i, tensor in enumerate(tensors[1:]):
            request.set_output_tensor(i, tensor)
        request.infer()
        with self.lock:
            self.idle.append(request)
        return pytree.tree_unflatten(results, structure)
