"""The contract of all operators, tested for every case of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pyrcnn import InputError
from tests.cases import FLOATS, OpCase, all_cases
from tests.conftest import devices
from tests.ops import checks

CASES = all_cases()


def first_shape(case: OpCase) -> Any:
    return next(iter(case.shapes.values()))


def one_size(wanted: Callable[[OpCase], Any] = lambda case: True) -> list[Any]:
    return [pytest.param(c, first_shape(c), id=c.name) for c in CASES if wanted(c)]


SIZES = [pytest.param(c, s, id=f"{c.name}-{n}") for c in CASES for n, s in c.shapes.items()]
LARGE = [pytest.param(c, c.large, id=f"{c.name}-large") for c in CASES if c.large]
EMPTY = [pytest.param(c, s, id=f"{c.name}-{n}") for c in CASES for n, s in c.empty_shapes.items()]
BAD = [pytest.param(c, make, name, id=f"{c.name}-{what}") for c in CASES for what, make, name in c.bad]
HOSTILE = [pytest.param(c, id=c.name) for c in CASES if c.hostile]
DTYPES = [pytest.param(d, id=str(d).removeprefix("torch.")) for d in FLOATS]
VIEWS = [checks.strided, checks.shifted, checks.channels_last]


def main_dtype(case: OpCase) -> torch.dtype:
    return torch.float32 if torch.float32 in case.dtypes else case.dtypes[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("case", "shape"), SIZES)
def test_equals_the_oracle(case: OpCase, shape: Any, dtype: torch.dtype, device, generator) -> None:
    inputs = case.inputs(generator, device, dtype, shape)
    if dtype not in case.dtypes:
        with pytest.raises(InputError):
            case.call(**inputs)
        return
    checks.close(case, dtype, case.call(**inputs), case.oracle(**checks.upcast(inputs)))


@pytest.mark.parametrize(("case", "shape"), EMPTY)
def test_empty_inputs(case: OpCase, shape: Any, device, generator) -> None:
    inputs = case.inputs(generator, device, main_dtype(case), shape)
    checks.close(case, main_dtype(case), case.call(**inputs), case.oracle(**checks.upcast(inputs)))


@pytest.mark.parametrize("view", VIEWS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("case", "shape"), SIZES)
def test_any_strides_give_the_same(case: OpCase, shape: Any, view, device, generator) -> None:
    inputs = case.inputs(generator, device, main_dtype(case), shape)
    expected = case.call(**inputs)
    checks.close(case, main_dtype(case), case.call(**checks.map_tensors(view, inputs)), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("case", "shape"), one_size(lambda c: c.layouts))
def test_the_memory_format_is_kept(case: OpCase, shape: Any, dtype: torch.dtype, device, generator) -> None:
    inputs = case.inputs(generator, device, dtype, shape)
    inputs.update({name: checks.map_tensors(checks.channels_last, inputs[name]) for name in case.layouts})
    result = case.call(**inputs)
    checks.close(case, dtype, result, case.oracle(**checks.upcast(inputs)))
    for output in checks.tensors(result):
        assert output.ndim != 4 or output.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("case", "change", "argument"), BAD)
def test_bad_input_is_an_error_that_names_it(case: OpCase, change, argument: str, device, generator) -> None:
    inputs = case.inputs(generator, device, main_dtype(case), first_shape(case))
    with pytest.raises(InputError) as error:
        case.call(**change(inputs))
    assert str(error.value).startswith(argument), str(error.value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_values_do_no_harm(case: OpCase, dtype: torch.dtype, device, generator) -> None:
    assert case.hostile is not None
    for inputs in case.hostile(generator, device, dtype) if dtype in case.dtypes else []:
        try:
            first = case.call(**inputs)
        except InputError:
            continue
        checks.identical(case.call(**inputs), first)


@pytest.mark.parametrize(("case", "shape"), SIZES + LARGE)
def test_threads_and_repetition_change_nothing(case: OpCase, shape: Any, device, generator) -> None:
    inputs = case.inputs(generator, device, main_dtype(case), shape)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = case.call(**inputs)
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            checks.identical(case.call(**inputs), expected)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("case", "shape"), one_size())
def test_every_output_element_is_written(case: OpCase, shape: Any, device, generator) -> None:
    """In deterministic mode, torch fills new memory with NaN, also in native code: the output must contain none."""
    inputs = case.inputs(generator, device, main_dtype(case), shape)
    expected = case.call(**inputs)
    with checks.deterministic():
        actual = case.call(**inputs)
    checks.identical(actual, expected)


@pytest.mark.parametrize(("case", "shape"), one_size())
def test_inputs_are_not_changed(case: OpCase, shape: Any, device, generator) -> None:
    inputs = case.inputs(generator, device, main_dtype(case), shape)
    before = checks.map_tensors(torch.clone, inputs)
    case.call(**inputs)
    checks.identical(inputs, before)


@pytest.mark.parametrize(("case", "shape"), one_size(lambda c: c.native))
def test_opcheck(case: OpCase, shape: Any, device, generator) -> None:
    assert case.native is not None
    inputs = case.inputs(generator, device, main_dtype(case), shape)
    for name in case.grads:
        inputs[name] = checks.map_tensors(Tensor.requires_grad_, inputs[name])
    overload, arguments = case.native(inputs)
    torch.library.opcheck(overload, arguments)


@pytest.mark.parametrize(("case", "shape"), one_size())
def test_compiles_as_one_graph(case: OpCase, shape: Any, device, generator) -> None:
    inputs = case.inputs(generator, device, main_dtype(case), shape)
    expected = case.call(**inputs)
    torch._dynamo.reset()
    compiled = torch.compile(case.call, fullgraph=True, backend="aot_eager", dynamic=True)(**inputs)
    if case.native:
        checks.identical(compiled, expected)
    else:  # plain torch: a compiler may reorder operations
        checks.close(case, main_dtype(case), compiled, expected)
    with torch.inference_mode():
        checks.identical(case.call(**inputs), expected)


@pytest.mark.parametrize(("case", "shape"), one_size(lambda c: c.grads))
def test_gradcheck(case: OpCase, shape: Any, device, generator) -> None:
    inputs = case.inputs(generator, device, torch.float64, case.grad_shape or shape)
    leaves: list[Tensor] = []

    def leaf(t: Tensor) -> Tensor:
        leaves.append(t.detach().clone().requires_grad_())
        return leaves[-1]

    prepared = {k: checks.map_tensors(leaf, v) if k in case.grads else v for k, v in inputs.items()}

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        fresh = iter(values)
        changed = {k: checks.map_tensors(lambda _: next(fresh), v) for k, v in prepared.items() if k in case.grads}
        return tuple(t for t in checks.tensors(case.call(**{**prepared, **changed})) if t.is_floating_point())

    repeated = 1e-10 if device.type == "cuda" else 0.0  # the default backward adds atomically there, in any order
    assert torch.autograd.gradcheck(function, tuple(leaves), eps=1e-6, atol=1e-5, nondet_tol=repeated)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("case", "shape"), one_size(lambda c: c.grads))
def test_gradients_match_float64(case: OpCase, shape: Any, dtype: torch.dtype, device, generator) -> None:
    if dtype not in case.dtypes:
        return
    inputs = case.inputs(generator, device, dtype, shape)
    got, want = checks.gradients(case, inputs), checks.gradients(case, checks.upcast(inputs))
    for a, b in zip(got, want, strict=True):
        scale = b.abs().max().clamp(min=1.0)
        assert ((a.cpu().double() - b).abs().max() / scale).item() <= 20 * case.tolerance[dtype]


@pytest.mark.parametrize(("case", "shape"), [p for p in SIZES if p.values[0].grads])
def test_deterministic_gradients_are_the_same_every_time(case: OpCase, shape: Any, device, generator) -> None:
    inputs = case.inputs(generator, device, main_dtype(case), shape)
    want = checks.gradients(case, checks.upcast(inputs))
    with checks.deterministic():
        first, again = checks.gradients(case, inputs), checks.gradients(case, inputs)
    checks.identical(again, first)
    for a, b in zip(first, want, strict=True):
        scale = b.abs().max().clamp(min=1.0) if b.numel() else 1.0
        torch.testing.assert_close(
            a.cpu().double() / scale, b / scale, rtol=0, atol=20 * case.tolerance[main_dtype(case)]
        )


@pytest.mark.cuda
@pytest.mark.skipif("cuda" not in devices(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("case", "shape"), SIZES)
def test_cpu_equals_cuda(case: OpCase, shape: Any, dtype: torch.dtype, generator) -> None:
    if dtype not in case.dtypes:
        return
    inputs = case.inputs(generator, torch.device("cpu"), dtype, shape)
    on_gpu = checks.map_tensors(Tensor.cuda, inputs)
    checks.close(case, dtype, case.call(**on_gpu), case.call(**inputs))
