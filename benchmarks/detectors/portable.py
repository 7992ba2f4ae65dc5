"""Our detectors with operators of torch and torchvision behind the networks, for runtimes that lack our operators.

The networks are the model's own layers. What follows them is written as users of those runtimes write it, for one
image of one size; anchors are constants.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers import torchvision
from pyrcnn.deploy.networks import replace_networks


class PortableCenterNet(nn.Module):
    """Pixels [1, 3, H, W] → boxes [k, 4], scores and labels [k], and the keypoints' maps, which are not matched."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = replace_networks(model)
        self.k = model.config.max_detections

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        maps = self.model.heads(pixels)
        heat = maps["heatmap"]
        height, width = pixels.shape[2] // 4, pixels.shape[3] // 4
        peaks = torch.where(F.max_pool2d(heat, 3, 1, 1) == heat, heat, torch.full_like(heat, -math.inf))
        logits, index = peaks.flatten().topk(self.k)
        labels, cell = index // (height * width), index % (height * width)
        y, x = cell // width, cell % width
        size = maps["size"].flatten(2)[0, :, cell].clamp(min=0)
        offset = maps["offset"].flatten(2)[0, :, cell]
        cy, cx = y + offset[0], x + offset[1]
        corners = torch.stack([cx - size[1] / 2, cy - size[0] / 2, cx + size[1] / 2, cy + size[0] / 2], 1)
        limit = torch.tensor([width, height, width, height], dtype=torch.float32)
        boxes = 4 * torch.minimum(corners.clamp(min=0), limit)
        return boxes, logits.sigmoid(), labels, *(maps[name] for name in maps if name.startswith("keypoint"))


def decode(deltas: Tensor, anchors: Tensor, weights: tuple[float, ...], clip: float) -> Tensor:
    """The boxes that ``deltas`` [..., 4] make of ``anchors`` [..., 4]."""
    size = anchors[..., 2:] - anchors[..., :2]
    centre = anchors[..., :2] + size / 2
    scale = torch.tensor(weights)
    centre = centre + deltas[..., :2] / scale[:2] * size
    half = size * (deltas[..., 2:] / scale[2:]).clamp(max=clip).exp() / 2
    return torch.cat([centre - half, centre + half], -1)


class PortableFasterRCNN(nn.Module):
    """Pixels [1, 3, H, W] and their size → boxes [D, 4], scores, labels [D]: torchvision's steps with its operators."""

    def __init__(self, model: Any, height: int, width: int, pixels: Tensor):
        super().__init__()
        self.model = replace_networks(model)
        self.height, self.width = height, width  # of the image, without the padding
        logits, _ = self.model.rpn.predict(self.model.backbone(pixels))
        self.anchors = self.model.rpn.anchors(logits, *pixels.shape[-2:]).split([x.numel() for x in logits])
        self.tv: Any = torchvision()

    def clip(self, boxes: Tensor) -> Tensor:
        limit = torch.tensor([self.width, self.height] * 2, dtype=torch.float32)
        return torch.minimum(boxes.clamp(min=0), limit)

    def proposals(self, features: list[Tensor]) -> Tensor:
        c = self.model.rpn.config
        boxes, scores, levels = [], [], []
        for level, (logits, deltas) in enumerate(zip(*self.model.rpn.predict(features), strict=True)):
            flat = logits.permute(0, 2, 3, 1).flatten()
            best, index = flat.topk(min(c.before_nms[1], self.anchors[level].shape[0]))
            rows = deltas.permute(0, 2, 3, 1).reshape(-1, 4)[index]
            boxes.append(decode(rows, self.anchors[level][index], c.weights, c.clip))
            scores.append(best)
            levels.append(torch.full_like(best, level))
        box, score, level = self.clip(torch.cat(boxes)), torch.cat(scores), torch.cat(levels)
        big = ((box[:, 2:] - box[:, :2]) >= c.min_size).all(1).nonzero()[:, 0]
        box, score, level = box[big], score[big], level[big]
        return box[self.nms(box, score, level, c.nms_threshold)[: c.after_nms[1]]]

    def nms(self, boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
        apart = groups[:, None] * float(max(self.height, self.width) + 1)
        return self.tv.ops.nms(boxes + apart, scores, threshold)

    def pool(self, features: list[Tensor], boxes: Tensor) -> Tensor:
        c, ops = self.model.roi.config, self.tv.ops
        rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], 1)
        scales = self.model.roi.scales
        if c.pool == "max":
            return ops.roi_pool(features[0], rois, c.resolution, scales[0])
        if len(scales) == 1:
            return ops.roi_align(features[0], rois, c.resolution, scales[0], c.sampling_ratio, c.aligned)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        first, last = (-int(math.log2(s)) for s in (scales[0], scales[-1]))
        level = (4 + torch.log2(area.sqrt() / 224 + 1e-6)).floor().clamp(first, last) - first
        result = torch.zeros(boxes.shape[0], features[0].shape[1], c.resolution, c.resolution)
        for i, scale in enumerate(scales):
            here = (level == i).nonzero()[:, 0]
            part = ops.roi_align(features[i], rois[here], c.resolution, scale, c.sampling_ratio, c.aligned)
            result = result.index_copy(0, here, part)
        return result

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c = self.model.roi.config
        features = self.model.backbone(pixels)
        proposals = self.proposals(features)
        logits, deltas = self.model.roi.predictor(self.model.roi.head(self.pool(features, proposals)))
        scores = logits.softmax(1)[:, 1:]
        boxes = self.clip(decode(deltas.reshape(scores.shape[0], -1, 4), proposals[:, None], c.weights, c.clip))
        row, label = (scores > c.score_threshold).nonzero().unbind(1)
        box, score = boxes[row, label], scores[row, label]
        big = ((box[:, 2:] - box[:, :2]) >= c.min_size).all(1).nonzero()[:, 0]
        box, score, label = box[big], score[big], label[big]
        kept = self.nms(box, score, label.float(), c.nms_threshold)[: c.max_detections]
        return box[kept], score[kept], label[kept]


def make_portable(model: Any, pixels: Tensor, size: tuple[int, int]) -> nn.Module | None:
    """``model`` for other runtimes, or None where their operators cannot do what it does."""
    if "maps" in model.PARTS:
        return PortableCenterNet(model)
    c = model.config
    if torchvision() is None or c.roi.clip_last or c.rpn.clip_anchors:  # TensorFlow's order of suppression and clipping
        return None
    return PortableFasterRCNN(model, *size, pixels)


def onnx_file(module: nn.Module, pixels: Tensor) -> bytes:
    """``module`` in ONNX, for pixels of this shape."""
    file = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")  # about sizes that become constants, which is intended
        torch.onnx.export(module, (pixels,), file, input_names=["pixels"], opset_version=18, dynamo=False)
    return file.getvalue()
