"""Reads detectron2's weights: Faster R-CNN with and without a pyramid, and ImageNet backbones.

detectron2 counts ResNet's stages from 2, keeps each norm inside its convolution, and has the background class last;
ours is first. Caffe2's names (``res2_0_branch2a_w``), which MSRA's ImageNet weights have, are read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..report import Entries, differences, renamed

STAGE = r"(?:backbone\.|bottom_up\.)*res([2-5])\.(\d+)\."


def _table(*pairs: tuple[str, str]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(pattern), name) for pattern, name in pairs]


# detectron2's name → ours with detectron2's stage numbers; the first that matches
NAMES = _table(
    (r"(?:backbone\.|bottom_up\.)*stem\.conv1\.weight", "backbone.body.conv1.weight"),
    (r"(?:backbone\.|bottom_up\.)*stem\.conv1\.norm\.(\w+)", r"backbone.body.bn1.\1"),
    (rf"{STAGE}conv(\d)\.weight", r"backbone.body.res\1.\2.conv\3.weight"),
    (rf"{STAGE}conv(\d)\.norm\.(\w+)", r"backbone.body.res\1.\2.bn\3.\4"),
    (rf"{STAGE}shortcut\.weight", r"backbone.body.res\1.\2.downsample.0.weight"),
    (rf"{STAGE}shortcut\.norm\.(\w+)", r"backbone.body.res\1.\2.downsample.1.\3"),
    (r"roi_heads\.res5\.(\d+)\.conv(\d)\.weight", r"roi.head.res5.\1.conv\2.weight"),
    (r"roi_heads\.res5\.(\d+)\.conv(\d)\.norm\.(\w+)", r"roi.head.res5.\1.bn\2.\3"),
    (r"roi_heads\.res5\.(\d+)\.shortcut\.weight", r"roi.head.res5.\1.downsample.0.weight"),
    (r"roi_heads\.res5\.(\d+)\.shortcut\.norm\.(\w+)", r"roi.head.res5.\1.downsample.1.\2"),
    (r"backbone\.fpn_lateral(\d)\.(weight|bias)", r"backbone.fpn.inner_blocks.res\1.0.\2"),
    (r"backbone\.fpn_lateral(\d)\.norm\.(\w+)", r"backbone.fpn.inner_blocks.res\1.1.\2"),
    (r"backbone\.fpn_output(\d)\.(weight|bias)", r"backbone.fpn.layer_blocks.res\1.0.\2"),
    (r"backbone\.fpn_output(\d)\.norm\.(\w+)", r"backbone.fpn.layer_blocks.res\1.1.\2"),
    (r"proposal_generator\.rpn_head\.conv\.(weight|bias)", r"rpn.head.conv.0.\1"),
    (r"proposal_generator\.rpn_head\.conv\.conv(\d)\.(\w+)", r"rpn.head.conv.\1.\2"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(\w+)", r"rpn.head.cls_logits.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(\w+)", r"rpn.head.bbox_pred.\1"),
    (r"roi_heads\.box_head\.fc1\.(\w+)", r"roi.head.fc6.\1"),
    (r"roi_heads\.box_head\.fc2\.(\w+)", r"roi.head.fc7.\1"),
    (r"roi_heads\.box_predictor\.(\w+\.\w+)", r"roi.predictor.\1"),
)
# Caffe2's → detectron2's; branch2a, b and c are the block's three convolutions
CAFFE2 = _table(
    (r"conv1_w", "stem.conv1.weight"),
    (r"(?:res_)?conv1_bn_([sb])", r"stem.conv1.norm.\1"),
    (r"res(\d)_(\d+)_branch1_w", r"res\1.\2.shortcut.weight"),
    (r"res(\d)_(\d+)_branch1_bn_([sb])", r"res\1.\2.shortcut.norm.\3"),
    (r"res(\d)_(\d+)_branch2([abc])_w", r"res\1.\2.conv\3.weight"),
    (r"res(\d)_(\d+)_branch2([abc])_bn_([sb])", r"res\1.\2.conv\3.norm.\4"),
)
MARKS = re.compile(
    r"proposal_generator\.|backbone\.(bottom_up|stem|res\d|fpn_)|roi_heads\.res5\.|"
    r"stem\.conv1\.|res2\.0\.conv1\.|res2_0_branch2a_w"
)
CONVENTIONS = {
    "normalization": "detectron2",
    "stride_in_1x1": True,
    "rpn.anchors": "detectron2",
    "roi.aligned": True,
}


def matches(source: Any) -> bool:
    """Whether ``source`` is a dict with detectron2's or Caffe2's names."""
    return isinstance(source, Mapping) and any(MARKS.match(str(name)) for name in source)


def is_imagenet(source: Mapping[str, Any]) -> bool:
    """Whether ``source`` holds a classifier: a backbone without a detector."""
    return not any(str(name).startswith(("proposal_generator.", "roi_heads.", "backbone.")) for name in source)


def read(model: nn.Module, source: Mapping[str, Any]) -> Entries:
    """The dict's tensors by the model's names; tensors of no layer keep detectron2's names."""
    given = {_from_caffe2(name): torch.as_tensor(value) for name, value in source.items()}
    own = model.state_dict()
    last_in_head = any(name.startswith("roi.head.layer4.") for name in own)
    state = Entries()
    for name, value in renamed(given, NAMES).items():
        ours = re.sub(r"_blocks\.res(\d)", lambda m: f"_blocks.{int(m[1]) - 2}", name)  # levels count from 0
        ours = re.sub(r"(body|head)\.res(\d)", lambda m: f"{m[1]}.layer{int(m[2]) - 1}", ours)
        if last_in_head and ours.startswith("backbone.body.layer4."):
            ours = ours.replace("backbone.body", "roi.head")  # ImageNet's last stage becomes the head
        state[ours] = value.roll(1, 0) if ours.startswith("roi.predictor.cls_score.") else value
    _complete_norms(model, state)
    state.notes += differences(getattr(model, "config", None), CONVENTIONS, "detectron2's weights")
    return state


def _from_caffe2(name: str) -> str:
    for pattern, form in CAFFE2:
        if found := pattern.fullmatch(name):
            name = found.expand(form)
            break
    else:
        return name
    name = re.sub(r"conv([abc])\.", lambda m: f"conv{'abc'.index(m[1]) + 1}.", name)
    return re.sub(r"norm\.([sb])$", lambda m: f"norm.{'weight' if m[1] == 's' else 'bias'}", name)


def _complete_norms(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Give norms that have scale and shift alone the statistics 0 and 1 - eps, which do not change the result."""
    for name, module in model.named_modules():
        eps = getattr(module, "eps", None)
        weight = state.get(f"{name}.weight")
        if eps is not None and weight is not None and f"{name}.running_mean" not in state:
            state[f"{name}.running_mean"] = torch.zeros_like(weight)
            state.setdefault(f"{name}.running_var", torch.ones_like(weight) - eps)
