"""Valid calls of every operator, from which the fuzzer makes others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyrcnn.deploy.engines.native.ops.conv_chain import Chain, chain_weight, conv_chains
from pyrcnn.deploy.engines.native.ops.winograd import winograd_conv2d, winograd_weight
from pyrcnn.deploy.programs.accept import ANY, Wanted, accept_images, accept_pixels
from pyrcnn.models.preprocess import RESIZES, Resizing, resize_as_pillow
from tests.cases import OpCase, all_cases
from tests.ops import checks

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Call:
    """A function, its arguments by position or by name, and its case where it has one."""

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    case: OpCase | None = None  # of a public function: its reference takes the same arguments
    dtype: torch.dtype = torch.float32
    is_hostile: bool = False  # with values for which the reference implementation may take long

    @property
    def is_native(self) -> bool:
        return self.case is None

    def __call__(self, arguments: dict[str, Any]) -> Any:
        return self.function(*arguments.values()) if self.is_native else self.function(**arguments)


class Recorder(TorchDispatchMode):
    """Records the calls of native operators, backward ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "pyrcnn":
            names = [argument.name for argument in func._schema.arguments]
            values = checks.map_tensors(Tensor.detach, dict(zip(names, args, strict=True)))
            self.calls.append(Call(func._schema.name.removeprefix("pyrcnn::"), func, values))
        return func(*args, **(kwargs or {}))


def _differentiate(case: OpCase, inputs: dict[str, Any], wanted: tuple[str, ...]) -> None:
    given = {
        name: checks.map_tensors(lambda t: t.detach().requires_grad_(t.is_floating_point()), value)
        if name in wanted
        else value
        for name, value in inputs.items()
    }
    sums = [t.sum() for t in checks.tensors(case.call(**given)) if t.requires_grad]
    if sums:
        torch.stack([s.double() for s in sums]).sum().backward()


def _convolutions() -> Iterator[Callable[[], object]]:
    g = torch.Generator().manual_seed(0)

    def make(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    expand, depthwise, project = (chain_weight(make(*s)) for s in ((8, 4, 1, 1), (8, 1, 3, 3), (2, 8, 1, 1)))
    window = chain_weight(make(8, 4, 3, 3))
    chains = [
        Chain(expand, depthwise, project, None, (8, 2), padding=(1, 1, 1, 1)),
        Chain(expand, None, project, chain_weight(make(3, 2, 1, 1)), (8, 2, 3)),
        Chain(window, depthwise, project, None, (8, 2), 2, (0, 1, 1, 0), window_stride=2, window_padding=(1, 0, 0, 1)),
    ]
    for chain in chains:
        yield lambda chain=chain: conv_chains([make(2, 4, 5, 6)], [chain])
    yield lambda: conv_chains([make(1, 4, 5, 6)], [chains[0], Chain(None, None, project, None, (2, 2))][:1])
    weight = winograd_weight(make(16, 16, 3, 3))
    yield lambda: winograd_conv2d(make(1, 16, 5, 6), weight, make(16))
    yield lambda: winograd_conv2d(make(2, 16, 3, 9), weight, None, make(2, 16, 3, 9))


def _accepted() -> Iterator[Callable[[], object]]:
    """The first operators of exported programs."""
    g = torch.Generator().manual_seed(0)
    pixels, sizes = torch.randn(2, 3, 8, 12, generator=g), torch.tensor([[8, 12], [7, 9]])
    images = torch.randint(0, 256, (2, 3, 8, 12), generator=g, dtype=torch.uint8)
    for wanted in (
        Wanted((2, 3, 8, 12), torch.float32, False, "cpu"), Wanted((ANY, 3, ANY, ANY), torch.bfloat16, True, "cpu"),
    ):  # fmt: skip
        yield lambda wanted=wanted: accept_pixels(pixels, sizes, wanted, 4)
        for rule in ("square", *RESIZES):
            resizing = Resizing(rule, 6, 16, 4, "imagenet")
            yield lambda wanted=wanted, resizing=resizing: accept_images(images, wanted, resizing)
    for image in (images[0], images[1] / 255):
        yield lambda image=image: resize_as_pillow(image, 5, 31)


def calls() -> list[Call]:
    """Return valid calls of all public functions, and of all native operators as the public functions call them."""
    found: list[Call] = []
    recorder = Recorder()
    for case in all_cases():
        for dtype in case.dtypes:
            g = torch.Generator().manual_seed(0)
            for shape in (*case.shapes.values(), *case.empty_shapes.values()):
                inputs = case.inputs(g, CPU, dtype, shape)
                found.append(Call(case.name, case.call, inputs, case, dtype))
                with recorder:
                    case.call(**inputs)
                    if case.grads:
                        _differentiate(case, inputs, case.grads)
                        if case.name.startswith("roi_align"):  # the gradient to the coordinates
                            _differentiate(case, inputs, ("boxes", "rois"))
            for inputs in case.hostile(g, CPU, dtype) if case.hostile else ():
                found.append(Call(case.name, case.call, inputs, case, dtype, is_hostile=True))
    with recorder:
        for call in (*_convolutions(), *_accepted()):
            call()
    return found + recorder.calls
