"""torchvision's operators on our kernels: what torchvision's own library would register, for those who have none."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from . import ops  # noqa: F401  (torch.ops.pyrcnn with its fake kernels)
from ._library import HERE
from ._native import build_info

_LIBRARY = HERE / "libpyrcnn_torchvision.so"
_ABSENT = (
    "ps_roi_align", "_ps_roi_align_backward", "ps_roi_pool", "_ps_roi_pool_backward", "deform_conv2d",
    "_deform_conv2d_backward", "box_iou_rotated",
)  # fmt: skip

Outcome = Literal["defined", "overridden", "left"]
_outcome: Outcome | None = None
_lock = threading.Lock()
_registrations: list[torch.library.Library] = []  # torch drops what a Library registered when it is freed


def provide_torchvision(override: bool = False) -> Outcome:
    """Make torchvision's operators run on our kernels; return what was done.

    ``torch.ops.torchvision`` gets ``nms``, ``roi_align``, ``roi_pool`` and their gradients, in C++, with torchvision's
    schemas, checks and error messages. Autograd, autocast, fake kernels, TorchScript, ``torch.export`` and programs
    saved before work. The quantized ``nms`` and ``roi_align`` of torchvision 0.28 and later compute in float32.
    ``ps_roi_align``, ``ps_roi_pool``, ``deform_conv2d`` and ``box_iou_rotated`` exist, because torchvision's import and
    TorchScript look them up; a call raises ``NotImplementedError``.

    Call it once, before torchvision's operators are used: before ``import torchvision`` or after one that failed. Where
    torchvision is installed, this imports it. Without torchvision, ``torch.ops.torchvision`` is there all the same.

    Args:
        override: if torchvision's own library loads, replace its kernels of those operators too. False leaves them.

    Returns:
        "defined": torchvision is missing or its library does not load under this torch, so ours serves its operators.
        "overridden": its library is loaded, and our kernels have replaced its own. "left": its library works and
        nothing was changed. A repeated call returns the same; only "left" can become "overridden".

    Raises:
        RuntimeError: if something other than torchvision's library has defined its operators, or if our library was
            not built.

    Example:
        >>> outcome = provide_torchvision()  # doctest: +SKIP
        >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
        >>> torch.ops.torchvision.nms(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.5)  # doctest: +SKIP
        tensor([1, 2])
    """
    global _outcome
    with _lock:
        if _outcome in (None, "left"):
            _outcome = _provide(override)
        return _outcome  # type: ignore[return-value]


def _provide(override: bool) -> Outcome:
    package = _installed()
    if _is_defined() or (package is not None and _load_own_library(package)):
        if not _has_kernel("nms", "CPU"):
            raise RuntimeError(
                "torchvision::nms has been defined by something other than torchvision's library; "
                "call provide_torchvision before it"
            )
        if not override:
            return "left"
        if package is not None:
            importlib.import_module("torchvision")  # registers its gradients and fake kernels
        _replace_kernels()
        return "overridden"
    _load()
    _register_quantized()
    _refuse_absent()
    if package is not None:
        _import_torchvision()
    _register_missing()
    return "defined"


def _installed() -> Path | None:
    """The folder of torchvision, which this does not import."""
    module = sys.modules.get("torchvision")
    spec = module.__spec__ if module is not None else importlib.util.find_spec("torchvision")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _is_defined() -> bool:
    return hasattr(torch.ops.torchvision, "nms")


def _has_kernel(op: str, key: str) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"torchvision::{op}", key))


def _load_own_library(package: Path) -> bool:
    """Load torchvision's library. This must come before ours: a second definition of an operator ends the process."""
    finder = importlib.machinery.FileFinder(
        str(package), (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    )
    for name in ("_C", "_C_stable"):  # since 0.29: _C_stable
        spec = finder.find_spec(name)
        if spec is not None and spec.origin is not None:
            try:
                torch.ops.load_library(spec.origin)
            except OSError:
                continue
            return _is_defined()
    return False


def _load(override: str = "") -> None:
    """Load our library. ``override``: see csrc/torchvision/torchvision.cpp."""
    if not _LIBRARY.exists():
        raise RuntimeError(f"{_LIBRARY} is missing; compile it: pip install -e . in the source folder")
    before = os.environ.pop("PYRCNN_TORCHVISION_OVERRIDE", None)
    try:
        if override:
            os.environ["PYRCNN_TORCHVISION_OVERRIDE"] = override
        torch.ops.load_library(_LIBRARY)
    finally:
        os.environ.pop("PYRCNN_TORCHVISION_OVERRIDE", None)
        if before is not None:
            os.environ["PYRCNN_TORCHVISION_OVERRIDE"] = before
    if build_info()["cuda_kernels"]:
        _choose_deterministic_gradients("CUDA")


def _replace_kernels() -> None:
    # torch warns of the first kernel of a process that is replaced. Python's warning can be caught; C++ would print it.
    with _unwarned_library() as library:
        library.impl("nms", lambda *args: None, "CPU", allow_override=True)
        library._destroy()
    _load("cpu,cuda" if build_info()["cuda_kernels"] else "cpu")


@contextmanager
def _unwarned_library() -> Iterator[torch.library.Library]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield torch.library.Library("torchvision", "IMPL")


def _choose_deterministic_gradients(device: str) -> None:
    """On CUDA, the deterministic gradients are slower. C++ cannot ask torch whether they are wanted."""

    def roi_align(
        grad: Tensor, rois: Tensor, scale: float, pooled_height: int, pooled_width: int, images: int, channels: int,
        height: int, width: int, sampling_ratio: int, aligned: bool,
    ) -> Tensor:  # fmt: skip
        exact = torch.are_deterministic_algorithms_enabled()
        return torch.ops.pyrcnn._roi_align_backward(
            grad, rois, [height], [width], images, [scale], sampling_ratio, aligned, 224.0, 4, False, exact
        )[0]

    def roi_pool(
        grad: Tensor, rois: Tensor, argmax: Tensor, scale: float, pooled_height: int, pooled_width: int, images: int,
        channels: int, height: int, width: int,
    ) -> Tensor:  # fmt: skip
        exact = torch.are_deterministic_algorithms_enabled()
        return torch.ops.pyrcnn._roi_pool_backward(grad, argmax, rois, scale, images, height, width, False, exact)

    with _unwarned_library() as library:
        library.impl("_roi_align_backward", roi_align, device, allow_override=True)
        library.impl("_roi_pool_backward", roi_pool, device, allow_override=True)
        _registrations.append(library)


def _register_quantized() -> None:
    """The quantized operators take integers and their scale. Their results come from the float32 operators."""

    def qnms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
        return torch.ops.torchvision.nms(dets.float(), scores.float(), iou_threshold)  # an IoU does not depend on scale

    def qroi_align(
        input: Tensor, rois: Tensor, input_scale: float, input_zero: int, rois_scale: float, rois_zero: int,
        scale: float, height: int, width: int, sampling_ratio: int, aligned: bool,
    ) -> Tensor:  # fmt: skip
        text = "Only one image per batch is allowed in roi_align when quantized tensors are passed."
        torch._check(input.shape[0] == 1, lambda: text)
        x, regions = (input.float() - input_zero) * input_scale, (rois.float() - rois_zero) * rois_scale
        regions[:, 0] = 0  # not every image number can be quantized
        out = torch.ops.torchvision.roi_align(x, regions, scale, height, width, sampling_ratio, aligned)
        limits = torch.iinfo(input.dtype)
        return (out.double() / input_scale).round().add(input_zero).clamp(limits.min, limits.max).to(input.dtype)

    library = torch.library.Library("torchvision", "IMPL")
    for kernel in (qnms, qroi_align):
        library.impl(kernel.__name__, kernel, "CompositeExplicitAutograd")
    _registrations.append(library)


def _refuse_absent() -> None:
    def refuse(op: str) -> Callable[..., None]:
        def kernel(*args: Any) -> None:
            raise NotImplementedError(
                f"torchvision::{op} needs torchvision's own library, which does not load; pyrcnn has no such operator"
            )

        return kernel

    library = torch.library.Library("torchvision", "IMPL")
    for op in _ABSENT:
        library.impl(op, refuse(op), "CompositeExplicitAutograd")
    _registrations.append(library)


# --- torchvision's Python code ---------------------------------------------------------------------------------------


class _Extension(importlib.abc.MetaPathFinder):
    """Makes torchvision.extension say that there are operators, although torchvision's own library does not load.

    As torchvision is imported, it asks this module, and registers fake kernels, gradients and autocast only then.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torchvision.extension":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.abc.Loader):
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _say_there_are_operators(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _has_ops() -> bool:  # torchvision's functions call it in TorchScript too, which compiles no lambda
    return True


def _say_there_are_operators(extension: ModuleType) -> None:
    extension._has_ops = _has_ops  # type: ignore[attr-defined]


def _import_torchvision() -> None:
    if "torchvision" in sys.modules:  # old versions can be imported without operators
        _say_there_are_operators(importlib.import_module("torchvision.extension"))
        for name in ("torchvision._meta_registrations", "torchvision._autograd_registrations"):
            if name in sys.modules:
                importlib.reload(sys.modules[name])
        return
    for name in [name for name in sys.modules if name.startswith("torchvision.")]:
        del sys.modules[name]  # what an import that failed left behind
    finder = _Extension()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("torchvision")
    finally:
        sys.meta_path.remove(finder)


# --- what torchvision's Python code did not register: versions differ, and there may be no torchvision ---------------


def _register_missing() -> None:
    if not _has_kernel("roi_align", "Meta"):
        _register_fakes()
    if not _has_kernel("roi_align", "Autograd"):
        _register_gradients()
    if not _has_kernel("roi_align", "AutocastCPU"):
        _register_autocast()


def _check(t: Tensor, rois: Tensor, name: str) -> None:
    torch._check(rois.shape[1] == 5, lambda: "rois must have shape as Tensor[K, 5]")
    torch._check(
        t.dtype == rois.dtype,
        lambda: (
            f"Expected tensor for {name} to have the same type as tensor for rois; "
            f"but type {t.dtype} does not equal {rois.dtype}"
        ),
    )


def _register_fakes() -> None:
    def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
        return torch.ops.pyrcnn.nms(dets, scores, iou_threshold)

    def roi_align(
        input: Tensor, rois: Tensor, scale: float, height: int, width: int, sampling_ratio: int, aligned: bool
    ) -> Tensor:
        _check(input, rois, "input")
        return input.new_empty((rois.shape[0], input.shape[1], height, width))

    def roi_pool(input: Tensor, rois: Tensor, scale: float, height: int, width: int) -> tuple[Tensor, Tensor]:
        out = roi_align(input, rois, scale, height, width, 0, False)
        return out, torch.empty_like(out, dtype=torch.int32)

    def roi_align_backward(
        grad: Tensor, rois: Tensor, scale: float, pooled_height: int, pooled_width: int, images: int, channels: int,
        height: int, width: int, *rest: Any,
    ) -> Tensor:  # fmt: skip
        _check(grad, rois, "grad")
        return grad.new_empty((images, channels, height, width))

    def roi_pool_backward(grad: Tensor, rois: Tensor, argmax: Tensor, *rest: Any) -> Tensor:
        return roi_align_backward(grad, rois, *rest)

    fakes: dict[str, Callable[..., Any]] = {
        "nms": nms,
        "roi_align": roi_align,
        "roi_pool": roi_pool,
        "_roi_align_backward": roi_align_backward,
        "_roi_pool_backward": roi_pool_backward,
    }
    for name, fake in fakes.items():
        torch.library.register_fake(f"torchvision::{name}", fake)


def _register_gradients() -> None:
    def setup_align(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, rois, *ctx.settings = inputs
        ctx.save_for_backward(rois)
        ctx.shape = input.shape

    def align(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        scale, height, width, *rest = ctx.settings
        backward = torch.ops.torchvision._roi_align_backward
        return backward(grad, *ctx.saved_tensors, scale, height, width, *ctx.shape, *rest), *[None] * 6

    def setup_pool(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        setup_align(ctx, inputs, output[0])
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[1], output[1])

    def pool(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
        backward = torch.ops.torchvision._roi_pool_backward
        return backward(grad, *ctx.saved_tensors, *ctx.settings, *ctx.shape), *[None] * 4

    for name, function, setup in (("roi_align", align, setup_align), ("roi_pool", pool, setup_pool)):

        def refuse(ctx: Any, *grads: Any, name: str = name) -> None:
            raise RuntimeError(f"double backwards on {name} not supported")

        torch.library.register_autograd(f"torchvision::{name}", function, setup_context=setup)
        torch.library.register_autograd(f"torchvision::_{name}_backward", refuse)


def _register_autocast() -> None:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU) | torch._C.DispatchKeySet(
        torch._C.DispatchKey.AutocastCUDA
    )

    halves = (torch.float16, torch.bfloat16)

    def in_float32(op: Callable[..., Any], args: Sequence[Any]) -> Any:
        """Call ``op`` as torch's autocast calls operators that need float32."""
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return op(*(a.float() if isinstance(a, Tensor) and a.dtype in halves else a for a in args))

    def nms(*args: Any) -> Tensor:
        return in_float32(torch.ops.torchvision.nms, args)

    def roi_align(input: Tensor, *args: Any) -> Tensor:
        return in_float32(torch.ops.torchvision.roi_align, (input, *args)).to(input.dtype)

    def roi_pool(input: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        out, argmax = in_float32(torch.ops.torchvision.roi_pool, (input, *args))
        return out.to(input.dtype), argmax

    library = torch.library.Library("torchvision", "IMPL")
    for device in ("CPU", "CUDA"):
        for kernel in (nms, roi_align, roi_pool):
            library.impl(kernel.__name__, kernel, f"Autocast{device}")
    _registrations.append(library)
