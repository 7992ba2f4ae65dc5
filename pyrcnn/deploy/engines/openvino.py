"""OpenVINO: networks converted from ``torch.export`` programs."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from ...models.detector import Detector
from ...models.layers import Float32Layer
from ..fx_graph import get_layer
from ..machine import machine
from .base import Options, Run
from .portable import PortableEngine, Results

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVino(PortableEngine):
    """Networks as OpenVINO programs for the CPU."""

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

    def convert(self, graph: fx.GraphModule, example: Tensor, dtypes: list[torch.dtype]) -> Any:
        """A compiled model that takes and returns feature maps in NCHW, in ``options.dtype``."""
        import openvino
        from openvino.preprocess import PrePostProcessor

        if self.options.dtype == torch.bfloat16:
            _end_in_float32_(graph)
        program = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
        interface = PrePostProcessor(openvino.convert_model(program))
        types = {torch.float32: openvino.Type.f32, torch.bfloat16: openvino.Type.bf16}
        interface.input(0).tensor().set_element_type(types[self.options.dtype])
        for i, dtype in enumerate(dtypes):
            interface.output(i).tensor().set_element_type(types[dtype])
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.options.dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        return openvino.Core().compile_model(interface.build(), "CPU", settings)

    def runner(self, program: Any, results: Results) -> Run:
        """Runs requests, one per concurrent call."""
        return _Requests(program, results)


def _end_in_float32_(graph: fx.GraphModule) -> None:
    """Make OpenVINO write the results of the last layers in float32 when it computes in bfloat16.

    It would write them in bfloat16 and convert them. A function that it computes inside the layer and that ends the
    network stays float32, and so does what the layer writes: a clamp that changes no finite number.
    """
    largest = torch.finfo(torch.float32).max
    for node in list(graph.graph.nodes):
        if get_layer(graph, node, Float32Layer) is not None:
            with graph.graph.inserting_after(node):
                clamped = graph.graph.call_function(torch.clamp, (node, -largest, largest))
            node.replace_all_uses_with(clamped, delete_user_cb=lambda user, clamped=clamped: user is not clamped)
    graph.recompile()


class _Requests:
    """Calls of a compiled model from any number of threads. Tensors share their memory with OpenVINO."""

    def __init__(self, compiled: Any, results: Results):
        self.compiled, self.results = compiled, results
        self.idle: list[Any] = []
        self.lock = threading.Lock()

    def __call__(self, x: Tensor) -> Any:
        x = x.detach().contiguous()
        tensors, structure = self.results.allocate(tuple(x.shape))
        if x.numel() > 0:
            self._infer(x, tensors)
        return pytree.tree_unflatten(tensors, structure)

    def _infer(self, x: Tensor, results: list[Tensor]) -> None:
        with self.lock:
            request = self.idle.pop() if self.idle else None
        request = request or self.compiled.create_infer_request()
        # The request does not keep tensors alive: it gets all of them anew in each call.
        shared = [_share(t) for t in (x, *results)]
        request.set_input_tensor(0, shared[0])
        for i, tensor in enumerate(shared[1:]):
            request.set_output_tensor(i, tensor)
        request.infer()
        with self.lock:
            self.idle.append(request)


def _share(t: Tensor) -> Any:
    """``t`` as an OpenVINO tensor in the same memory."""
    import openvino

    if t.dtype == torch.bfloat16:  # which numpy does not have
        return openvino.Tensor(t.view(torch.int16).numpy(), list(t.shape), openvino.Type.bf16)
    return openvino.Tensor(t.numpy(), shared_memory=True)
