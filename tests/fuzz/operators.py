"""Makes and judges the calls of the operators' fuzzer: a result or an error with a text, never anything else."""

from __future__ import annotations

import collections
import functools
import math
import re
from random import Random
from typing import Any

import torch
from torch import Tensor

from pyrcnn import InputError
from tests.fuzz.corpus import Call, calls
from tests.fuzz.mutations import Mutator
from tests.ops import checks

REFUSALS = (ValueError, RuntimeError, TypeError, IndexError, OverflowError)
UNCLEAR = re.compile(r"API call failed|bad_alloc|INTERNAL ASSERT|^$")
# The sizes of their results depend on the values, or are unknown until the program runs.
UNKNOWN_SIZE = {"nms", "batched_nms", "_accept_pixels", "_accept_images"}
SLOW = 30.0  # seconds of processor time, for results as large as the limited memory
MEASURED = 1 << 20  # elements of results that are computed again with two threads, at most
OUT_OF_MEMORY = "out of memory"
CHEAP = 2000  # elements for which the reference implementation takes milliseconds


class Failure(AssertionError):
    """A call that crashed nothing but was not answered rightly."""


@functools.cache
def corpus() -> dict[str, list[Call]]:
    """Return the valid calls of each operator; native operators begin with "pyrcnn::"."""
    found = collections.defaultdict(list)
    for call in calls():
        found[("pyrcnn::" if call.is_native else "") + call.name].append(call)
    return dict(found)


def make(seed: int, operator: str | None) -> tuple[str, Call, dict[str, Any], Mutator]:
    """Return the call of ``seed``: operator, valid call, changed arguments, and what changed them."""
    rng = Random(seed)
    name = operator or rng.choice(list(corpus()))
    call = rng.choice(corpus()[name])
    mutator = Mutator(rng)
    return name, call, mutator.call(call.arguments), mutator


def _devices(value: Any) -> set[str]:
    return {t.device.type for t in checks.tensors(value)}


def _check_fake(call: Call, arguments: dict[str, Any], result: Any) -> None:
    """The fake kernel must give the same shapes and dtypes as the kernel."""
    try:
        fake = call(checks.map_tensors(lambda t: t.to("meta"), arguments))
    except Exception as error:
        if "Expected a value of type" in str(error):
            return  # torch takes a number from a tensor of one element, but not from one on "meta"
        raise Failure(f"only the fake kernel refuses it: {error}") from error
    shapes = [[(tuple(t.shape), t.dtype) for t in checks.tensors(value)] for value in (result, fake)]
    if shapes[0] != shapes[1]:
        raise Failure(f"the kernel returns {shapes[0]}, the fake kernel {shapes[1]}")


def _check_reference(call: Call, arguments: dict[str, Any], result: Any) -> None:
    if call.case is None or call.case.native is None or call.is_hostile:
        return
    if sum(t.numel() for t in checks.tensors([arguments, result])) > CHEAP:
        return
    try:
        wanted = call.case.oracle(**checks.upcast(arguments))
    except Exception:  # it is only written for valid calls
        return
    shapes = [[t.shape for t in checks.tensors(value)] for value in (result, wanted)]
    if shapes[0] != shapes[1]:  # nor does it broadcast as operators do
        return
    checks.close(call.case, call.dtype, result, wanted)


def _same(one: Any, two: Any) -> bool:
    pairs = zip(checks.tensors(one), checks.tensors(two), strict=True)
    return all(torch.equal(a, b) or torch.equal(a.nan_to_num(0.5), b.nan_to_num(0.5)) for a, b in pairs)


_results: dict[int, Any] = {}  # of valid calls, by their identity


def _original(call: Call) -> Any:
    if id(call) not in _results:
        try:
            _results[id(call)] = call(call.arguments)
        except InputError as error:  # hostile values
            _results[id(call)] = error
    return _results[id(call)]


def run(seed: int, operator: str | None = None) -> tuple[str, Any]:
    """Make the call of ``seed``. Return its operator and the result, or the error if the arguments are refused.

    Raises:
        Failure: for a wrong result, or an error without a readable text.
    """
    name, call, arguments, mutator = make(seed, operator)
    try:
        result = call(arguments)
    except REFUSALS as error:
        if UNCLEAR.search(str(error)):
            raise Failure(f"unclear: {type(error).__name__}: {error}") from error
        if mutator.kept and not isinstance(_original(call), Exception) and "must be contiguous" not in str(error):
            raise Failure(f"refused valid arguments: {error}") from error
        return name, error
    except Exception as error:
        raise Failure(f"{type(error).__name__}: {error}") from error
    given, got = _devices(arguments), _devices(result)
    if got - given:
        raise Failure(f"result on {got} for arguments on {given}")
    if len(given) > 1 and name != "grid_anchors":  # whose levels are independent
        raise Failure(f"no error for arguments on {given}")
    if "meta" in given:
        return name, None
    if mutator.kept and call.case:
        checks.close(call.case, call.dtype, result, _original(call))
    if mutator.plain and seed % 4 == 3:
        _check_reference(call, arguments, result)
    if seed % 4 == 0 and sum(t.numel() for t in checks.tensors(result)) < MEASURED:
        torch.set_num_threads(2)
        try:
            again = call(arguments)
        except REFUSALS as error:  # two results may not fit into the limited memory
            if "out of memory" not in str(error):
                raise Failure(f"refused the second time: {error}") from error
            again = result
        finally:
            torch.set_num_threads(1)
        if not _same(again, result):
            raise Failure("1 and 2 threads differ")
    if seed % 4 == 1 and call.is_native and call.name not in UNKNOWN_SIZE:
        _check_fake(call, arguments, result)
    return name, result


def summary(result: Any) -> list[Any]:
    """Return numbers that describe a result: for real numbers up to rounding, for others exactly."""
    if isinstance(result, Exception):
        return [OUT_OF_MEMORY if "memory" in str(result) else type(result).__name__]
    described: list[Any] = []
    for t in checks.tensors(result):
        if t.device.type == "meta" or t.numel() > MEASURED:
            described.append([list(t.shape)])
        elif t.is_floating_point():
            wide = t.double().flatten()
            finite = wide[wide.isfinite()]
            described.append([list(t.shape), len(finite), finite.sum().item(), finite.abs().sum().item()])
        else:
            described.append([list(t.shape), _digest(t)])
    return described


def _digest(t: Tensor) -> int:
    flat = t.flatten().long()
    return int((flat * torch.arange(1, len(flat) + 1)).sum())


def agree(one: list[Any], two: list[Any], tolerance: float = 1e-3) -> bool:
    """Return whether two summaries describe the same result."""
    if [OUT_OF_MEMORY] in (one, two):  # which depends on the memory that other calls have left
        return True
    if len(one) != len(two):
        return False
    return all(a == b or _are_close(a, b, tolerance) for a, b in zip(one, two, strict=True))


def _are_close(a: Any, b: Any, tolerance: float) -> bool:
    """Compare the shape and number of finite values exactly, and their sum with the sum of their magnitudes."""
    if not all(isinstance(each, list) and len(each) == 4 for each in (a, b)) or a[:2] != b[:2]:
        return False
    same_size = math.isclose(a[3], b[3], rel_tol=tolerance, abs_tol=1e-6)
    return same_size and abs(a[2] - b[2]) <= tolerance * (1e-3 + max(a[3], b[3]))
