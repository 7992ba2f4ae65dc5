"""CenterNet's boxes from the sizes and offsets at the peaks."""

from __future__ import annotations

import torch
from torch import Tensor

from ._register import input_errors, refuse_forward_ad, register_fake

_op = torch.ops.pyrcnn.decode_centers.default


@input_errors
def decode_centers(
    ys: Tensor,
    xs: Tensor,
    size: Tensor,
    offset: Tensor,
    stride: float,
    clamp_size: bool = True,
    clip: bool = True,
) -> Tensor:
    """Return the boxes [N, k, 4] (x1 y1 x2 y2, input pixels) of objects centred in given cells.

    Source: Zhou et al. 2019, "Objects as Points", section 4. The centre is the cell plus the offset there. Only k
    values of each map are read, in any memory format.

    Args:
        ys, xs: [N, k] int64 cells, from :func:`heatmap_peaks`.
        size: [N, 2, H, W] height and width, in cells; any floating-point dtype.
        offset: [N, 2, H, W] y and x, in cells.
        stride: input pixels per cell.
        clamp_size: count negative sizes as 0.
        clip: clip the boxes to the feature map, that is to [0, H] x [0, W] cells.

    Returns:
        float32 boxes (float64 for float64 maps), differentiable in ``size`` and ``offset``. A cell outside the map
        gives a box of zeros.

    Raises:
        InputError: for wrong shapes, dtypes or devices.

    Example:
        >>> cell = torch.tensor([[1]])
        >>> decode_centers(cell, cell, torch.full((1, 2, 4, 4), 2.0), torch.full((1, 2, 4, 4), 0.5), stride=4)
        tensor([[[ 2.,  2., 10., 10.]]])
    """
    refuse_forward_ad("decode_centers", (size, offset))
    return _op(ys, xs, size, offset, stride, clamp_size, clip)


@register_fake("decode_centers")
def _(ys: Tensor, xs: Tensor, size: Tensor, offset: Tensor, stride: float, clamp_size: bool, clip: bool) -> Tensor:
    dtype = torch.float64 if size.dtype == torch.float64 else torch.float32
    return size.new_empty((ys.shape[0], ys.shape[1], 4), dtype=dtype)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ys, xs, size, offset, ctx.stride, ctx.clamp_size, ctx.clip = inputs
    ctx.save_for_backward(ys, xs, size, offset)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    ys, xs, size, offset = ctx.saved_tensors
    n, _, height, width = size.shape
    if size.numel() == 0:
        return None, None, torch.zeros_like(size), torch.zeros_like(offset), None, None, None
    inside = (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
    cells = (ys * width + xs).where(inside, 0).unsqueeze(1).expand(-1, 2, -1)  # [N, 2, k]

    def at_cells(maps: Tensor) -> Tensor:
        return maps.reshape(n, 2, height * width).to(grad.dtype).gather(2, cells)

    extent = at_cells(size)
    positive = extent >= 0 if ctx.clamp_size else torch.ones_like(extent, dtype=torch.bool)
    center = torch.stack((ys, xs), 1).to(grad.dtype) + at_cells(offset)
    half = extent.where(positive, 0) / 2
    low, high = grad.unflatten(2, (2, 2)).permute(2, 0, 3, 1).flip(2) * ctx.stride  # [N, (y, x), k] each
    if ctx.clip:
        # filled on the device: a copy from the host would synchronize and could not be captured in a CUDA graph
        limit = torch.cat((grad.new_full((1, 1, 1), height), grad.new_full((1, 1, 1), width)), 1)
        low = low.where((center - half >= 0) & (center - half <= limit), 0)
        high = high.where((center + half >= 0) & (center + half <= limit), 0)
    low, high = low.where(inside.unsqueeze(1), 0), high.where(inside.unsqueeze(1), 0)

    def to_map(values: Tensor, like: Tensor) -> Tensor:
        return grad.new_zeros(n, 2, height * width).scatter_add(2, cells, values).reshape(like.shape).to(like.dtype)

    grad_size = to_map(((high - low) / 2).where(positive, 0), size)
    return None, None, grad_size, to_map(low + high, offset), None, None, None


torch.library.register_autograd("pyrcnn::decode_centers", _backward, setup_context=_setup_context)
