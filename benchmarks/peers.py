"""The libraries that we compare with; those that are not installed are left out.

PyPI's torchvision is linked against CUDA, so its library does not load beside a CPU-only torch, although its CPU
kernels do not use CUDA. Two stand-in libraries with the missing symbols let it load; they are compiled on first use.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import importlib.util
import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


def optional(name: str) -> ModuleType | None:
    """An installed module, or None."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


@functools.cache
def torchvision() -> ModuleType | None:
    """torchvision with working operators, or None when it is not installed or does not fit this torch."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    try:
        if not torch.version.cuda:
            _stand_in_for_cuda(Path(spec.origin).parent)
        module = importlib.import_module("torchvision")
        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.1]])
        return module if module.ops.nms(boxes, torch.tensor([0.5, 0.9]), 0.5).tolist() == [1] else None
    except (OSError, RuntimeError, ImportError, subprocess.CalledProcessError) as error:
        print(f"torchvision is installed but does not load: {error}")
        return None


def _symbols(library: Path, kind: str) -> set[str]:
    listing = subprocess.run(
        ["nm", "-D", f"--{kind}-only", library], text=True, capture_output=True, check=False
    ).stdout
    return {line.split()[-1].partition("@")[0] for line in listing.splitlines() if line.strip()}


def _stand_in_for_cuda(package: Path) -> None:
    """Load stand-ins for libc10_cuda and libtorch_cuda that define the symbols which torchvision's library needs."""
    bundled = package.parent / "torchvision.libs"
    for runtime in bundled.glob("libcudart*"):
        ctypes.CDLL(str(runtime), mode=ctypes.RTLD_GLOBAL)
    library = next(p for p in (package / "_C.so", package / "_C_stable.so") if p.exists())
    key = hashlib.sha1(f"{library}{library.stat().st_size}{torch.__version__}".encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"pyrcnn-bench-{key}"
    if not (folder / "done").exists():
        folder.mkdir(exist_ok=True)
        there = [*(Path(torch.__file__).parent / "lib").glob("*.so*"), *bundled.glob("*.so*")]
        defined = set().union(*(_symbols(p, "defined") for p in there))
        missing = sorted(s for s in _symbols(library, "undefined") - defined if "cuda" in s.lower())
        lines = ["#include <stdlib.h>"]
        lines += [f"void* {s}[8];" if s.endswith("9allocatorE") else f"void {s}(void) {{ abort(); }}" for s in missing]
        (folder / "stand_in.c").write_text("\n".join(lines) + "\n")
        for name, source in (("libc10_cuda.so", "stand_in.c"), ("libtorch_cuda.so", "empty.c")):
            (folder / "empty.c").touch()
            command = ["cc", "-shared", "-fPIC", "-o", folder / name, f"-Wl,-soname,{name}", folder / source]
            subprocess.run(command, check=True)
        (folder / "done").touch()
    for name in ("libc10_cuda.so", "libtorch_cuda.so"):
        ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)


class OpenVino:
    """One or a few OpenVINO operators on torch's number of threads. A call without arguments returns tensors.

    ``build(opset, *inputs)`` returns a node, whose first output becomes the result, or a list of outputs.
    """

    def __init__(self, build: Callable[..., Any], inputs: list[torch.Tensor], precision: str = "f32") -> None:
        import openvino
        import openvino.opset9 as opset

        parameters = [
            opset.parameter(list(t.shape), openvino.Type.f32 if t.is_floating_point() else openvino.Type.i64)
            for t in inputs
        ]
        built = build(opset, *parameters)
        self.single = not isinstance(built, list)
        model = openvino.Model([built] if self.single else built, parameters)
        config = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": precision}
        self.request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
        self.inputs = [openvino.Tensor(t.contiguous().numpy(), shared_memory=True) for t in inputs]
        for i, value in enumerate(self.inputs):
            self.request.set_input_tensor(i, value)

    def __call__(self) -> Any:
        self.request.infer()
        outputs = [torch.from_numpy(tensor.data) for tensor in self.request.output_tensors]
        return outputs[0] if self.single else outputs


def openvino(build: Callable[..., Any], inputs: list[torch.Tensor]) -> OpenVino | None:
    """An :class:`OpenVino`, or None where it is not installed or the inputs are not on the CPU."""
    return OpenVino(build, inputs) if optional("openvino") and inputs[0].device.type == "cpu" else None


COMPILED = "torch.compile"  # left out where nothing is timed, because compiling is slow


def compile_static(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """``function`` compiled by torch.compile for the shapes of its calls, or None without a C++ compiler."""
    return torch.compile(function, dynamic=False) if shutil.which("c++") else None


class OnnxRuntime:
    """An ONNX file in ONNX Runtime, on torch's number of threads: its inputs → its outputs."""

    def __init__(self, file: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def __call__(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        named = {i.name: x.numpy() for i, x in zip(self.session.get_inputs(), inputs, strict=True)}
        return [torch.from_numpy(x) for x in self.session.run(None, named)]


def onnx_roi_align(
    x: torch.Tensor, rois: torch.Tensor, size: int, scale: float, sampling: int
) -> Callable[[], Any] | None:
    """ONNX Runtime's RoIAlign with torchvision's default coordinates; None where it is not installed."""
    if not optional("onnxruntime") or not optional("onnx"):
        return None
    from onnx import TensorProto, helper

    node = helper.make_node(
        "RoiAlign", ["x", "rois", "images"], ["y"], coordinate_transformation_mode="output_half_pixel",
        output_height=size, output_width=size, sampling_ratio=sampling, spatial_scale=scale,
    )  # fmt: skip
    kinds = {"x": TensorProto.FLOAT, "rois": TensorProto.FLOAT, "images": TensorProto.INT64}
    inputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "roi_align", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    run = OnnxRuntime(model.SerializeToString())
    boxes, images = rois[:, 1:].contiguous(), rois[:, 0].long()
    return lambda: run(x, boxes, images)[0]


class OpenVinoModel:
    """An ONNX file in OpenVINO, on torch's number of threads: pixels → its outputs."""

    def __init__(self, file: bytes, precision: str = "f32", profile: bool = False) -> None:
        import openvino

        config = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": precision,
                  "PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": profile}  # fmt: skip
        core = openvino.Core()
        self.compiled = core.compile_model(core.read_model(io.BytesIO(file)), "CPU", config)
        self.request = self.compiled.create_infer_request()

    def __call__(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        found = self.request.infer([pixels.numpy()], share_inputs=True)
        return [torch.from_numpy(found[i].copy()) for i in range(len(found))]


def openvino_has_bfloat16() -> bool:
    """Whether OpenVINO would compute in bfloat16 on this CPU."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
