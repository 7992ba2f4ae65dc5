"""OpenVINO's time per layer of a network of ours, by the shapes that :func:`benchmarks.stages.layers` names."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.detectors.portable import make_portable, onnx_file
from benchmarks.peers import OpenVinoModel

KINDS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")


def _shape(port: Any) -> str:
    shape = port.get_partial_shape()
    return "x".join(map(str, shape.to_shape())) if shape.is_static else "?"


class OpenVinoLayers:
    """One of our detectors in OpenVINO. A call returns shapes → (seconds, calls), and seconds of the other operators.

    Layers whose input size depends on the image's content, such as the number of proposals, count as other operators.
    """

    def __init__(self, model: Any, image: torch.Tensor, precision: str = "f32"):
        self.pixels, sizes, _ = model.preprocess([image])
        module = make_portable(model, self.pixels, tuple(sizes[0].tolist()))  # type: ignore[arg-type]
        if module is None:
            raise SystemExit("OpenVINO has no operators for the steps behind this network")
        self.engine = OpenVinoModel(onnx_file(module, self.pixels), precision, profile=True)
        self.names = {}
        for op in self.engine.compiled.get_runtime_model().get_ordered_ops():
            if op.get_rt_info()["layerType"].astype(str) in KINDS and op.get_input_size():
                self.names[op.get_friendly_name()] = f"{_shape(op.input(0))} → {_shape(op.output(0))}"

    def __call__(self) -> tuple[dict[str, tuple[float, int]], float]:
        self.engine(self.pixels)
        found: dict[str, tuple[float, int]] = {}
        rest = 0.0
        for node in self.engine.request.get_profiling_info():
            seconds, what = node.real_time.total_seconds(), self.names.get(node.node_name, "?")
            if "?" in what:
                rest += seconds
            else:
                spent, calls = found.get(what, (0.0, 0))
                found[what] = spent + seconds, calls + 1
        return found, rest
