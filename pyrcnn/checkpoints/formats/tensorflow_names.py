"""The TensorFlow layer of each of our layers: one table per backbone, neck and head, as data.

A table yields pairs (our module, TensorFlow's layer). Backbones are Keras models, whose layers have names
(``conv2_block1_1_conv``) and are saved under ``layer_with_weights-N``. N counts the layers with weights in Keras'
order, so the order of these tables matters. Necks and heads are found by their route alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

HEADS = {
    "heatmap": "object_center",
    "size": "box.Sscale",
    "offset": "box.Soffset",
    "keypoint_heatmap": "human_pose.Skeypoint.Sheatmap",
    "keypoint_regression": "human_pose.Skeypoint.Sregression",
    "keypoint_offset": "human_pose.Skeypoint.Soffset",
}


@dataclass(frozen=True)
class Layer:
    """One TensorFlow layer: the route of named edges to it, and its Keras name if that is always the same.

    ``outputs`` converts its outputs (the first dimension of weight and bias) to ours.
    """

    module: str
    route: str
    keras_name: str | None = None
    outputs: Callable[[Tensor], Tensor] | None = None


Pairs = Iterator[tuple[str, str]]


def mobilenet_v2(blocks: int = 17) -> Pairs:
    """Keras' MobileNetV2 in its order: (module of ours, Keras layer)."""
    yield from (("stem.conv", "Conv1"), ("stem.norm", "bn_Conv1"))
    for block in range(blocks):
        keras = f"block_{block}" if block else "expanded_conv"
        for part in ("expand", "depthwise", "project") if block else ("depthwise", "project"):
            yield f"blocks.{block}.{part}.conv", f"{keras}_{part}"
            yield f"blocks.{block}.{part}.norm", f"{keras}_{part}_BN"
    yield from (("last.conv", "Conv_1"), ("last.norm", "Conv_1_bn"))


def resnet_v1(backbone: nn.Module, stages: tuple[int, ...] = (2, 3, 4, 5), stem: bool = True) -> Pairs:
    """Keras' ResNet V1 in its order: a projected shortcut (``_0_``) is saved just before the third layer."""
    if stem:
        yield from (("conv1.conv", "conv1_conv"), ("conv1.norm", "conv1_bn"))
    for stage in stages:
        for index, block in enumerate(backbone.get_submodule(f"conv{stage}").children()):
            ours, keras = f"conv{stage}.{index}", f"conv{stage}_block{index + 1}"
            for part in (1, 2):
                yield f"{ours}.conv{part}.conv", f"{keras}_{part}_conv"
                yield f"{ours}.conv{part}.norm", f"{keras}_{part}_bn"
            last = [("conv3", 3)] if _is_identity(block.shortcut) else [("shortcut", 0), ("conv3", 3)]
            for kind, suffix in (("conv", "conv"), ("norm", "bn")):
                yield from ((f"{ours}.{module}.{kind}", f"{keras}_{number}_{suffix}") for module, number in last)


def resnet_v2(backbone: nn.Module) -> Pairs:
    """Keras' ResNet V2 in its order, without the final norm (``post_bn``), which detectors do not use."""
    yield "conv1", "conv1_conv"
    for stage in (2, 3, 4, 5):
        for index, block in enumerate(backbone.get_submodule(f"conv{stage}").children()):
            ours, keras = f"conv{stage}.{index}", f"conv{stage}_block{index + 1}"
            yield f"{ours}.preact", f"{keras}_preact_bn"
            for part in (1, 2):
                yield f"{ours}.conv{part}.conv", f"{keras}_{part}_conv"
                yield f"{ours}.conv{part}.norm", f"{keras}_{part}_bn"
            if not _is_identity(block.shortcut):
                yield f"{ours}.shortcut", f"{keras}_0_conv"
            yield f"{ours}.conv3", f"{keras}_3_conv"


def _is_identity(module: object) -> bool:
    return isinstance(module, nn.Identity)


def hourglass(backbone: nn.Module) -> Iterator[Layer]:
    """Hourglass-104, whose modules carry TensorFlow's names."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            yield Layer(f"backbone.{name}", f"model/_feature_extractor/_network/{name.replace('.', '/')}")


def numbered(prefix: str, base: str, pairs: Pairs) -> Iterator[Layer]:
    """Layers of a Keras model that was saved at the route ``base``."""
    for index, (module, keras) in enumerate(pairs):
        yield Layer(f"{prefix}.{module}", f"{base}/layer_with_weights-{index}", keras)


def top_down(steps: int) -> Iterator[Layer]:
    """The pyramid of ResNet V1 and MobileNetV2; entry 0 of the saved model is the backbone."""
    base = "model/_feature_extractor/_feature_extractor_model/layer_with_weights-"
    yield Layer("neck.top", f"{base}1")
    for step in range(steps):
        yield Layer(f"neck.laterals.{step}", f"{base}{2 + 3 * step}")
        yield Layer(f"neck.merges.{step}.conv", f"{base}{3 + 3 * step}")
        yield Layer(f"neck.merges.{step}.norm", f"{base}{4 + 3 * step}")


def deconvolutions(steps: int) -> Iterator[Layer]:
    """The transposed convolutions behind ResNet V2."""
    base = "model/_feature_extractor/_feature_extractor_model/layer_with_weights-"
    for step in range(steps):
        yield Layer(f"neck.convs.{step}.conv", f"{base}{1 + 4 * step}")
        yield Layer(f"neck.convs.{step}.norm", f"{base}{2 + 4 * step}")
        yield Layer(f"neck.ups.{step}.conv", f"{base}{3 + 4 * step}")
        yield Layer(f"neck.ups.{step}.norm", f"{base}{4 + 4 * step}")


def heads(model: nn.Module) -> Iterator[Layer]:
    """CenterNet's heads, one per map and stack."""
    for name, stacks in model.get_submodule("head").named_children():
        for stack, _ in stacks.named_children():
            base = f"model/_prediction_head_dict/{HEADS[name]}/{stack}/layer_with_weights-"
            yield Layer(f"head.{name}.{stack}.conv", f"{base}0")
            yield Layer(f"head.{name}.{stack}.out", f"{base}1")


def centernet(model: nn.Module) -> Iterator[Layer]:
    """Every layer of a CenterNet, by its configuration."""
    config: Any = model.config
    backbone = model.get_submodule("backbone")
    name = str(config.backbone)
    if name.startswith("hourglass"):
        yield from hourglass(backbone)
    else:
        pairs = mobilenet_v2() if name == "mobilenet_v2" else (resnet_v2 if "v2" in name else resnet_v1)(backbone)
        yield from numbered("backbone", "model/_feature_extractor/_base_model", pairs)
    if config.neck == "fpn":
        yield from top_down(len(config.neck_widths))
    elif config.neck == "deconv":
        yield from deconvolutions(len(config.neck_widths))
    yield from heads(model)


def resnet_of_detector(backbone: nn.Module, stages: tuple[int, ...]) -> Pairs:
    """Keras' ResNet V1 in its order, for the modules of torchvision's names: conv2 is ``layer1``."""
    if stages[0] == 2:
        yield from (("conv1", "conv1_conv"), ("bn1", "conv1_bn"))
    for stage in stages:
        for index, block in enumerate(backbone.get_submodule(f"layer{stage - 1}").children()):
            ours, keras = f"layer{stage - 1}.{index}", f"conv{stage}_block{index + 1}"
            for part in (1, 2):
                yield f"{ours}.conv{part}", f"{keras}_{part}_conv"
                yield f"{ours}.bn{part}", f"{keras}_{part}_bn"
            projected = getattr(block, "downsample", None) is not None
            for last, place, suffix in (("conv3", 0, "conv"), ("bn3", 1, "bn")):
                if projected:
                    yield f"{ours}.downsample.{place}", f"{keras}_0_{suffix}"
                yield f"{ours}.{last}", f"{keras}_3_{suffix}"


def object_minus_background(pairs: Tensor) -> Tensor:
    """[2A, …] logits (background, object) per anchor to A: their softmax is the sigmoid of the difference."""
    return pairs[1::2] - pairs[::2]


def swapped_codes(codes: Tensor) -> Tensor:
    """[4A, …] of (y, x, h, w) to (x, y, w, h)."""
    return codes.unflatten(0, (-1, 4))[:, [1, 0, 3, 2]].flatten(0, 1)


def faster_rcnn(model: nn.Module) -> Iterator[Layer]:
    """Every layer of ``faster_rcnn_resnet50_v1_640`` and its variants: ResNet without a pyramid, conv5 as the head."""
    config: Any = model.config
    if not config.backbone.startswith("resnet") or config.fpn_channels or config.roi.head != "conv5":
        return  # TensorFlow's zoo has no such model
    body, head = model.get_submodule("backbone.body"), model.get_submodule("roi.head")
    extractor = "model/_feature_extractor_for"
    yield from numbered("backbone.body", f"{extractor}_proposal_features", resnet_of_detector(body, (2, 3, 4)))
    yield from numbered("roi.head", f"{extractor}_box_classifier_features", resnet_of_detector(head, (5,)))
    yield Layer("rpn.head.conv.0", "model/_first_stage_box_predictor_first_conv/layer_with_weights-0")
    first = "model/_first_stage_box_predictor/_prediction_heads"
    scores = f"{first}/class_predictions_with_background/0/_class_predictor_layers/0"
    yield Layer("rpn.head.cls_logits", scores, outputs=object_minus_background)
    yield Layer("rpn.head.bbox_pred", f"{first}/box_encodings/0/_box_encoder_layers/0", outputs=swapped_codes)
    second = "model/_mask_rcnn_box_predictor"
    yield Layer("roi.predictor.cls_score", f"{second}/_class_prediction_head/_class_predictor_layers/1")
    boxes = f"{second}/_box_prediction_head/_box_encoder_layers/1"
    yield Layer("roi.predictor.bbox_pred", boxes, outputs=swapped_codes)


# model class → its table
TABLES = {"CenterNet": centernet, "FasterRCNN": faster_rcnn}
