"""Code in detectron2's manner, which imports torchvision's operators, on ours. The swap: one line before the import."""

from __future__ import annotations

import torch
from timing import arguments, report, timed
from torch import Tensor

import pyrcnn


def layers() -> tuple[type[torch.nn.Module], object]:
    """Return a RoIAlign layer and a batched NMS as detectron2's ``layers`` define them."""
    from torchvision.ops import boxes, roi_align

    class ROIAlign(torch.nn.Module):
        def __init__(self, output_size: int, spatial_scale: float, sampling_ratio: int) -> None:
            super().__init__()
            self.output_size, self.spatial_scale, self.sampling_ratio = output_size, spatial_scale, sampling_ratio

        def forward(self, input: Tensor, rois: Tensor) -> Tensor:
            size = (self.output_size, self.output_size)
            return roi_align(input, rois.to(input.dtype), size, self.spatial_scale, self.sampling_ratio, aligned=True)

    def batched_nms(b: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
        return boxes.batched_nms(b.float(), scores, idxs, iou_threshold)

    return ROIAlign, batched_nms


def head(count: int) -> tuple[Tensor, Tensor]:
    """Suppress ``count`` proposals of five levels, and pool what remains from a feature map."""
    align, suppress = layers()
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=g) * 700
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=g) * 200 + 8], 1)
    scores, levels = torch.rand(count, generator=g), torch.arange(count) % 5
    kept = suppress(boxes, scores, levels, 0.7)[:1000]  # type: ignore[operator]
    x = torch.rand(1, 256, 50, 68, generator=g)
    return kept, align(7, 1 / 16, 0)(x, torch.nn.functional.pad(boxes[kept], (1, 0)))


def main() -> None:
    """Compare the results and the times before and after the swap."""
    count = 500 if arguments(__doc__).small else 5000
    try:
        before = timed(lambda: head(count))
    except (RuntimeError, ImportError) as error:  # torchvision's library does not load under this torch
        print(f"before: {error}")
        before = None
    print(f"provide_torchvision: {pyrcnn.provide_torchvision(override=True)}")  # the swap
    after, time = timed(lambda: head(count))
    if before is not None:
        torch.testing.assert_close(after, before[0])
    report(f"{count} proposals, {len(after[0])} regions", before[1] if before else None, time)


if __name__ == "__main__":
    main()
