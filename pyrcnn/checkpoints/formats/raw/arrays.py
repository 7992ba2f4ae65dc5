"""numpy's arrays in pickles, rebuilt from bytes, dtype and shape without calling numpy's functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .unpickling import StandIns, Unreadable

MOST_AXES = 32  # numpy's limit before 2.0
SLACK = 1 << 20  # bytes that small arrays may share: Python keeps one object for equal short bytes
PLAIN = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")


class _DType:
    """A pickled dtype: a code such as "f4", then its byte order."""

    def __init__(self, code: Any, *_: Any):
        self.code = code
        self.order: Any = "|"

    def set_state(self, state: Any) -> None:
        """Take over what numpy pickles besides the code."""
        self.order = state[1] if isinstance(state, tuple) and len(state) > 1 else None

    def number_type(self) -> np.dtype[Any]:
        """The dtype, if its values are plain numbers."""
        plain = isinstance(self.code, str) and self.code in PLAIN
        if not plain or self.order not in ("<", ">", "|", "="):
            shown = repr(self.code) if isinstance(self.code, str) else type(self.code).__name__
            raise Unreadable(f"it is an array of dtype {shown[:40]}, not of numbers")
        return np.dtype(f"{self.order}{self.code}")


class _Text:
    """Bytes that an old protocol wrote as text; encoded when they are needed."""

    def __init__(self, text: str, encoding: str):
        if not isinstance(text, str) or encoding != "latin1":
            raise ValueError("the encoding is unknown")
        self.text = text


class Budget:
    """The bytes that arrays may take together: many arrays could name the same bytes of a small file."""

    def __init__(self, size: int):
        self.left = size

    def take(self, size: int) -> None:
        """Count ``size`` bytes; raise :class:`Unreadable` if they are too many."""
        self.left -= size
        if self.left < 0:
            raise Unreadable("its arrays are larger than the file")


class StoredArray:
    """A pickled array whose bytes have not been interpreted yet."""

    def __init__(self, budget: Budget, data: Any = b"", kind: Any = None, shape: Any = (0,), fortran: bool = False):
        self.budget, self.data, self.kind, self.shape, self.fortran = budget, data, kind, shape, fortran
        self._found: Tensor | None = None

    def set_state(self, state: Any) -> None:
        """Take over the shape, the dtype, the order and the bytes."""
        if isinstance(state, tuple) and len(state) == 5:
            _, self.shape, self.kind, self.fortran, self.data = state

    def resolve(self) -> Tensor:
        """The array in the machine's byte order. Raises :class:`Unreadable` if the bytes do not fill the shape."""
        if self._found is None:
            self._found = torch.from_numpy(self._array())
        return self._found

    def peek(self) -> Tensor:
        """A tensor of the array's shape without data."""
        return torch.empty(sizes(self.shape), device="meta")

    def _array(self) -> np.ndarray:
        if not isinstance(self.kind, _DType):
            raise Unreadable("it is an array without a dtype")
        kind = self.kind.number_type()
        data = self.data.text if isinstance(self.data, _Text) else self.data
        try:
            data = data.encode("latin1") if isinstance(data, str) else data
        except UnicodeEncodeError:
            raise Unreadable("it has text in place of bytes") from None
        if not isinstance(data, bytes):
            raise Unreadable("it is an array without bytes")
        shape = sizes(self.shape)
        if math.prod(shape) * kind.itemsize != len(data):
            raise Unreadable(f"its {len(data)} bytes do not fill its shape")
        self.budget.take(len(data))
        array = np.frombuffer(data, kind).astype(kind.newbyteorder("="))
        return array.reshape(shape, order="F" if self.fortran else "C")


def sizes(values: Any) -> tuple[int, ...]:
    """``values`` if they can be sizes, offsets or strides of a tensor; :class:`Unreadable` otherwise."""
    short = isinstance(values, tuple | list) and len(values) <= MOST_AXES
    if not short or not all(type(value) is int and 0 <= value < 2**62 for value in values):
        raise Unreadable("it has a negative or enormous size")
    return tuple(values)


def stand_ins(size: int) -> StandIns:
    """What is called in place of the functions with which numpy pickles arrays, in a file of ``size`` bytes."""
    budget = Budget(size + SLACK)
    return {
        "numpy.dtype": _DType,
        "numpy.core.multiarray._reconstruct": lambda *_: StoredArray(budget),
        "numpy.core.numeric._frombuffer": lambda data, kind, shape, order: StoredArray(
            budget, data, kind, shape, order == "F"
        ),
        "numpy.core.multiarray.scalar": lambda kind, data=b"": StoredArray(budget, data, kind, ()),
        "_codecs.encode": _Text,
        "builtins.bytes": lambda *_: b"",  # protocol 2 writes empty bytes so
    }
