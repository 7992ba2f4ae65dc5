"""Tensors in files of ``torch.save``: views of a memory map, made when they are asked for."""

from __future__ import annotations

import math
import mmap
import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .arrays import sizes
from .unpickling import Global, StandIns, Unreadable

STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
    "QInt8Storage": torch.int8,  # of quantized tensors, which are not rebuilt
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
}
Place = Callable[[str, int], tuple[int, int, int]]  # (key, bytes per element) → offset, bytes, CRC32 or 0


class Storage:
    """A flat array in a file, named by its key. ``place`` finds it when it is first read."""

    def __init__(self, data: mmap.mmap, place: Place, dtype: torch.dtype, key: str, big: bool = False):
        self.data, self.place, self.dtype, self.key, self.big = data, place, dtype, key, big
        self.base = 0  # of a view, in elements
        self.whole = self
        self._bytes: Tensor | None = None

    def part(self, begin: int) -> Storage:
        """A view from an element on (files of PyTorch before 1.6)."""
        view = Storage(self.data, self.place, self.dtype, self.key, self.big)
        view.base, view.whole = self.base + begin, self.whole
        return view

    def bytes(self) -> Tensor:
        """The content [bytes] uint8, with its checksum verified."""
        if self.whole is not self:
            return self.whole.bytes()
        if self._bytes is None:
            width = self.dtype.itemsize
            offset, size, crc = self.place(self.key, width)
            if offset + size > len(self.data) or size % width:
                raise Unreadable(f"the data of storage {self.key} run past the end")
            if size == 0:
                return torch.empty(0, dtype=torch.uint8)
            if crc and zlib.crc32(memoryview(self.data)[offset : offset + size]) != crc:
                raise Unreadable(f"the checksum of storage {self.key} does not match")
            found = torch.frombuffer(self.data, dtype=torch.uint8, count=size, offset=offset)
            if self.big:
                width = width // 2 if self.dtype.is_complex else width
                found = found.view(-1, width).flip(1).reshape(-1)
            self._bytes = found.clone() if found.data_ptr() % width else found
        return self._bytes


class StoredTensor:
    """A tensor in a file: a storage, and which of its elements they are."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype | None = None):
        if not isinstance(storage, Storage):
            raise TypeError("the tensor has no storage")
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride
        self.dtype = dtype or storage.dtype

    def resolve(self) -> Tensor:
        """The tensor. Raises :class:`Unreadable` if it claims other elements than its storage has."""
        shape, steps, (offset,) = sizes(self.size), sizes(self.stride), sizes([self.offset])
        if len(shape) != len(steps):
            raise Unreadable(f"it has {len(shape)} axes and {len(steps)} strides")
        if self.dtype != self.storage.dtype and self.storage.dtype != torch.uint8:
            raise Unreadable("it has another dtype than its storage")
        flat = self.storage.bytes()
        if len(flat) % self.dtype.itemsize:
            raise Unreadable("its storage has no whole number of elements")
        flat = flat.view(self.dtype)
        begin, count = self.storage.base + offset, math.prod(shape)
        reach = sum((size - 1) * stride for size, stride in zip(shape, steps, strict=True))
        if count > len(flat) or (count and begin + reach >= len(flat)):
            raise Unreadable(f"shape {list(shape)} does not fit the {len(flat)} elements that the file holds")
        return flat.as_strided(shape, steps, begin) if count else flat.new_empty(shape)

    def peek(self) -> Tensor:
        """A tensor of the same shape without data."""
        return torch.empty(sizes(self.size), device="meta")


def stand_ins() -> StandIns:
    """What is called in place of the functions with which PyTorch pickles tensors."""

    def tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
        return StoredTensor(storage, offset, size, stride)

    def untyped(storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, kind: Any, *_: Any) -> Any:
        dtype = getattr(torch, kind.name.removeprefix("torch."))
        if not isinstance(dtype, torch.dtype):
            raise TypeError("the tensor has no dtype")
        return StoredTensor(storage, offset, size, stride, dtype)

    rebuild = {
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_tensor_v3": untyped,
    }

    def subclass(function: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
        return rebuild[function.name](*arguments)

    return rebuild | {
        "torch._utils._rebuild_parameter": lambda value, *_: value,
        "torch._utils._rebuild_parameter_with_state": lambda value, *_: value,
        "torch._tensor._rebuild_from_type": subclass,
        "torch._tensor._rebuild_from_type_v2": subclass,
        "torch.nn.parameter.Parameter": lambda *values: values[0],
        "torch.Size": lambda *sizes: sizes[0],
    }


def storage_type(value: Any) -> torch.dtype | None:
    """The dtype of a storage class that a pickle names; None if it is unknown."""
    return STORAGES.get(value.name.rpartition(".")[2]) if isinstance(value, Global) else None
