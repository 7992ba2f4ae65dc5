"""ONNX Runtime: networks converted to ONNX."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from ...models.detector import Detector
from .base import Options, Run
from .portable import PortableEngine, Results

INPUT = "x"


class OnnxRuntime(PortableEngine):
    """Networks as ONNX Runtime sessions on the CPU."""

    name = "onnxruntime"
    packages = ("onnxruntime", "onnx", "onnxscript")

    @classmethod
    def refusal(cls, model: Detector, options: Options) -> str | None:
        """Also refuses other dtypes than float32."""
        if options.dtype != torch.float32:
            return f"dtype must be torch.float32 for engine onnxruntime, got {options.dtype}"
        return super().refusal(model, options)

    def convert(self, graph: fx.GraphModule, example: Tensor, dtypes: list[torch.dtype]) -> Any:
        """A session for inputs of any size."""
        import onnxruntime

        names = [f"result{i}" for i in range(len(dtypes))]
        program = torch.onnx.export(graph, (example,), input_names=[INPUT], output_names=names, dynamo=True,
                                    dynamic_shapes=({0: torch.export.Dim.AUTO},), verbose=False)  # fmt: skip
        assert program is not None
        model = program.model_proto
        del model.graph.value_info[:]  # shapes for the example
        for value in (*model.graph.input, *model.graph.output):
            for axis, size in enumerate(value.type.tensor_type.shape.dim):
                if axis != 1:  # channels
                    size.dim_param = f"{value.name}_{axis}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def runner(self, program: Any, results: Results) -> Run:
        """Runs the session, which several threads may share. Tensors share their memory with it."""
        names = [output.name for output in program.get_outputs()]

        def run(x: Tensor) -> Any:
            x = x.detach().contiguous()
            tensors, structure = results.allocate(tuple(x.shape))
            if x.numel() > 0:
                binding = program.io_binding()
                binding.bind_input(INPUT, "cpu", 0, "float32", list(x.shape), x.data_ptr())
                for name, result in zip(names, tensors, strict=True):
                    binding.bind_output(name, "cpu", 0, "float32", list(result.shape), result.data_ptr())
                program.run_with_iobinding(binding)
            return pytree.tree_unflatten(tensors, structure)

        return run
