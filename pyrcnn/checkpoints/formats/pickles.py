"""Reads files that PyTorch or Python pickled (``.pth``, ``.pkl``) without executing code in them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, require

ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # first bytes of PyTorch's archives and of binary pickles
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # first bytes of files of PyTorch before 1.6
WRAPPERS = ("model", "state_dict", "blobs")  # training programs store the weights under one of these


def matches(source: Any) -> bool:
    """Whether ``source`` is a file with the first bytes of a PyTorch archive or a pickle."""
    return isinstance(source, str | os.PathLike) and os.path.isfile(source) and _head(source).startswith((ZIP, PICKLE))


def read(file: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors and arrays in ``file`` by name, without its other content (versions, optimizers).

    Raises :class:`pyrcnn.InputError` naming the file if it is damaged, holds no tensors, or holds other objects than
    arrays in plain containers.
    """
    path = Path(file)
    try:
        if _head(path).startswith((ZIP, LEGACY)):
            content = torch.load(path, map_location="cpu", weights_only=True)
        else:
            content = restricted(path)
    except Exception as error:  # pickle, zip, type and memory errors alike
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"source: {path} is damaged or holds more than weights: {reason}") from None
    found = tensors(content)
    require(bool(found), f"source: {path} holds no named tensors")
    return found


def tensors(content: Any) -> dict[str, Tensor]:
    """The tensors in a file's content by name, without its wrapper and DataParallel's prefix."""
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        return {}
    arrays = {str(name): value for name, value in content.items() if isinstance(value, Tensor | np.ndarray)}
    shift = len("module.") if arrays and all(name.startswith("module.") for name in arrays) else 0
    return {name[shift:]: torch.as_tensor(value) for name, value in arrays.items()}


def _head(file: str | os.PathLike[str]) -> bytes:
    with open(file, "rb") as stream:
        return stream.read(len(LEGACY))


def restricted(path: Path) -> Any:
    """The content of a pickle of numbers, strings, containers and numpy arrays of numbers.

    A pickle names the functions that rebuild it. None of them is called: numpy's are recognised by name and the arrays
    rebuilt here from bytes, dtype and shape. Every other name is refused.
    """

    class Unpickler(pickle.Unpickler):
        """Calls only the stand-ins, created for each file so that a file cannot change them."""

        def __init__(self, stream: Any):
            super().__init__(stream, encoding="latin1")  # bytes of Python 2 become text of the same codes
            self.known = _constructors()

        def find_class(self, module: str, name: str) -> Any:
            known = self.known.get(f"{module.replace('numpy._core', 'numpy.core')}.{name}")
            if known is None:
                raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array")
            return known

    with open(path, "rb") as stream:
        return _values(Unpickler(stream).load())


def _constructors() -> dict[str, Callable[..., Any]]:
    """Stand-ins for the functions with which numpy pickles arrays."""

    class Ordered(dict[Any, Any]):
        """An OrderedDict. Unlike a dict it has attributes, which state dicts set."""

    def codec(text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"it encodes text as {encoding}")
        return text.encode("latin1")

    return {
        "collections.OrderedDict": Ordered,
        "numpy.dtype": lambda code, *_: _DType(code),
        "numpy.ndarray": lambda *_: None,  # an argument of _reconstruct, never called
        "numpy.core.multiarray._reconstruct": lambda *_: _Array(),
        "numpy.core.numeric._frombuffer": lambda data, kind, shape, order: _Array(data, kind, shape, order == "F"),
        "numpy.core.multiarray.scalar": lambda kind, data: _Array(data, kind, ()),
        "_codecs.encode": codec,
        "__builtin__.bytes": lambda: b"",  # protocol 2 writes empty bytes so
    }


class _DType:
    """A pickled dtype: a code such as "f4", then its byte order."""

    def __init__(self, code: Any):
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def resolve(self) -> np.dtype[Any]:
        """The dtype, if its values are plain numbers."""
        plain = isinstance(self.code, str) and self.code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")
        if not plain or self.order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it holds an array of dtype {self.code!r}, not of numbers")
        return np.dtype(f"{self.order}{self.code}")


class _Array:
    """A pickled array whose bytes have not been interpreted yet."""

    def __init__(self, data: Any = b"", kind: Any = None, shape: Any = (0,), fortran: bool = False):
        self.data, self.kind, self.shape, self.fortran = data, kind, shape, fortran

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.kind, self.fortran, self.data = state

    def resolve(self) -> Any:
        """The array in the machine's byte order. numpy raises if the bytes do not fill the shape."""
        if not isinstance(self.kind, _DType):
            raise pickle.UnpicklingError("it holds an array without a dtype")
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        kind = self.kind.resolve()
        array = np.frombuffer(data, kind).astype(kind.newbyteorder("="))
        return array.reshape(self.shape, order="F" if self.fortran else "C")


def _values(content: Any, depth: int = 2) -> Any:
    """``content`` with its arrays rebuilt, down to the second level of dicts, which holds the weights."""
    if isinstance(content, _Array):
        return content.resolve()
    if isinstance(content, dict) and depth:
        return {name: _values(value, depth - 1) for name, value in content.items()}
    return content
