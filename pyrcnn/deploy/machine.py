"""What the processor can do, as far as the choice of kernels and engines depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .. import _native


@dataclass(frozen=True)
class Machine:
    """The processor of this process, as :func:`machine` describes it.

    ``kernels``: the instruction set of pyrcnn's own kernels, "default", "avx2" or "avx512". ``bfloat16``: whether
    torch multiplies bfloat16 in hardware, by AMX or AVX512_BF16. ``packed``: the dtypes that oneDNN has kernels for.
    """

    kernels: str
    bfloat16: bool
    packed: frozenset[torch.dtype]


def machine() -> Machine:
    """This processor. Every decision that depends on it asks this function."""
    return _detect()


def _detect() -> Machine:  # tests replace it
    packed: set[torch.dtype] = set()
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        packed.add(torch.float32)
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            packed.add(torch.bfloat16)
        if torch.ops.mkldnn._is_mkldnn_fp16_supported():
            packed.add(torch.float16)
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    hardware = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    # oneDNN also has bfloat16 kernels for processors that convert to float32, and can be told to use fewer instructions
    bfloat16 = bool(hardware) and torch.bfloat16 in packed
    return Machine(_native.build_info()["cpu_capability"], bfloat16, frozenset(packed))
