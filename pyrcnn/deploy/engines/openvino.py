"""OpenVINO: networks converted from ``torch.export`` programs, compiled for the input shapes that are in use."""

from __future__ import annotations

import threading
from collections import OrderedDict
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
MAX_WEIGHTS = 512 << 20  # bytes of one network's weights in all programs; each has a copy
MIN_PROGRAMS, MAX_PROGRAMS = 2, 40  # per network
MAX_NCHW_CHANNELS = 4  # inputs with so few channels are images: OpenVINO reads them in NCHW


class OpenVino(PortableEngine):
    """Networks as OpenVINO programs for the CPU."""

    name = "openvino"
    packages = ("openvino",)

    def __init__(self, options: Options):
        super().__init__(options)
        self.channels_last = True

    @classmethod
    def refusal(cls, model: Detector, options: Options) -> str | None:
        """Also refuses float16, and bfloat16 on processors without it."""
        if options.dtype not in PRECISIONS:
            return f"dtype must be torch.float32 or torch.bfloat16 for engine openvino, got {options.dtype}"
        if options.dtype == torch.bfloat16 and not machine().bfloat16:
            return "dtype must be torch.float32 for engine openvino on a processor without bfloat16, got torch.bfloat16"
        return super().refusal(model, options)

    def convert(self, graph: fx.GraphModule, example: Tensor, dtypes: list[torch.dtype]) -> Any:
        """An OpenVINO model for inputs of any size."""
        import openvino

        if self.options.dtype == torch.bfloat16:
            _end_in_float32_(graph)
        program = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
        return openvino.convert_model(program)

    def runner(self, program: Any, results: Results) -> Run:
        """Compiles the model when shapes come."""
        return _Programs(program, results)


def _end_in_float32_(graph: fx.GraphModule) -> None:
    """Make OpenVINO write the results of the last layers in float32 when it computes in bfloat16.

    By default it writes bfloat16 and converts that. It keeps float32 for functions that end the network, and computes a
    clamp inside the layer, before the layer writes. This clamp changes no finite number.
    """
    largest = torch.finfo(torch.float32).max
    for node in list(graph.graph.nodes):
        if get_layer(graph, node, Float32Layer) is not None:
            with graph.graph.inserting_after(node):
                clamped = graph.graph.call_function(torch.clamp, (node, -largest, largest))
            node.replace_all_uses_with(clamped, delete_user_cb=lambda user, clamped=clamped: user is not clamped)
    graph.recompile()


class _Programs:
    """A model compiled for each input shape in use, and once for all other shapes.

    A program for one shape takes and returns feature maps in channels_last, as it computes them; the program for all
    shapes would have to reorder them. While there is room, a new shape is compiled when it first comes (0.2 s for
    MobileNetV2). Later a new shape runs with the program for all shapes; if it comes again while it is remembered, its
    program replaces the least recently used one.
    """

    def __init__(self, model: Any, results: Results):
        self.model, self.results = model, results
        weights = sum(p.numel() for p in results.graph.parameters()) * results.dtype.itemsize
        self.capacity = min(max(MAX_WEIGHTS // max(weights, 1), MIN_PROGRAMS), MAX_PROGRAMS)
        self.threads = torch.get_num_threads()
        self.programs: OrderedDict[tuple[int, ...], _Requests] = OrderedDict()  # least recently used first
        self.seen: OrderedDict[tuple[int, ...], None] = OrderedDict()  # shapes without a program, oldest first
        self.general: _Requests | None = None
        self.lock = threading.Lock()

    def __call__(self, x: Tensor) -> Any:
        if x.numel() == 0:
            return pytree.tree_unflatten(*self.results.allocate(tuple(x.shape)))
        return self.find(tuple(x.shape))(x)

    def find(self, shape: tuple[int, ...]) -> _Requests:
        """The program to run for an input of this ``shape``."""
        with self.lock:
            if shape not in self.programs:
                full = len(self.programs) >= self.capacity
                if full and shape not in self.seen:
                    self.seen[shape] = None
                    if len(self.seen) > self.capacity:
                        self.seen.popitem(last=False)
                    self.general = self.general or self._compile(None)
                    return self.general
                self.seen.pop(shape, None)
                if full:
                    self.programs.popitem(last=False)
                self.programs[shape] = self._compile(shape)
            self.programs.move_to_end(shape)
            return self.programs[shape]

    def _compile(self, shape: tuple[int, ...] | None) -> _Requests:
        import openvino
        from openvino.preprocess import PrePostProcessor

        model = self.model.clone()
        if shape is not None:
            model.reshape(list(shape))
        interface = PrePostProcessor(model)
        types = {torch.float32: openvino.Type.f32, torch.bfloat16: openvino.Type.bf16}
        like, _ = self.results.like(shape or (1, *self.results.example[1:]))
        ports = [interface.input(0), *(interface.output(i) for i in range(len(like)))]
        reads_maps = len(self.results.example) == 4 and self.results.example[1] > MAX_NCHW_CHANNELS
        maps = [reads_maps, *(x.dim() == 4 for x in like)]
        dtypes = [self.results.dtype, *(x.dtype for x in like)]
        for port, dtype, is_map in zip(ports, dtypes, maps, strict=True):
            port.tensor().set_element_type(types[dtype])
            if shape is not None and is_map:
                port.tensor().set_layout(openvino.Layout("NHWC"))
                port.model().set_layout(openvino.Layout("NCHW"))
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.results.dtype],
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
        }
        compiled = openvino.Core().compile_model(interface.build(), "CPU", settings)
        return _Requests(compiled, self.results, shape is not None, shape is not None and reads_maps)


class _Requests:
    """Calls of a compiled model from any number of threads. Tensors share their memory with OpenVINO."""

    def __init__(self, compiled: Any, results: Results, channels_last: bool, reads_channels_last: bool):
        self.compiled, self.results, self.channels_last = compiled, results, channels_last
        self.layout = torch.channels_last if reads_channels_last else torch.contiguous_format
        self.idle: list[Any] = []
        self.lock = threading.Lock()

    def __call__(self, x: Tensor) -> Any:
        x = x.detach().contiguous(memory_format=self.layout)
        tensors, structure = self.results.allocate(tuple(x.shape), self.channels_last)
        with self.lock:
            request = self.idle.pop() if self.idle else None
        request = request or self.compiled.create_infer_request()
        # The request does not keep tensors alive: it gets all of them anew in each call.
        shared = [_share(x, self.layout == torch.channels_last), *(_share(t, self.channels_last) for t in tensors)]
        request.set_input_tensor(0, shared[0])
        for i, tensor in enumerate(shared[1:]):
            request.set_output_tensor(i, tensor)
        request.infer()
        with self.lock:
            self.idle.append(request)
        return pytree.tree_unflatten(tensors, structure)


def _share(t: Tensor, channels_last: bool) -> Any:
    """``t`` as an OpenVINO tensor in the same memory, [N, H, W, C] if ``channels_last`` and ``t`` is a feature map."""
    import openvino

    if channels_last and t.dim() == 4:
        t = t.permute(0, 2, 3, 1)
    if t.dtype == torch.bfloat16:  # which numpy does not have
        return openvino.Tensor(t.view(torch.int16).numpy(), list(t.shape), openvino.Type.bf16)
    return openvino.Tensor(t.numpy(), shared_memory=True)
