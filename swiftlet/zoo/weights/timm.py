"""Names in timm (huggingface/pytorch-image-models)."""

from collections.abc import Iterator, Sequence
from typing import Any

from swiftlet.zoo.weights.layout import Layout, Pairs, children, conv_bn
from swiftlet.zoo.weights.torchvision import inception_v3, resnet, vgg16_features


def mobilenet_v1(model: Any) -> Pairs:
    yield from conv_bn("stem", "conv_stem", "bn1")
    sizes = (1, 2, 2, 6, 2)  # theirs are grouped into stages of one resolution
    names = (f"blocks.{stage}.{i}" for stage, size in enumerate(sizes) for i in range(size))
    for (path, _), theirs in zip(children("blocks", model.blocks), names, strict=True):
        yield from conv_bn(f"{path}.depthwise", f"{theirs}.conv_dw", f"{theirs}.bn1")
        yield from conv_bn(f"{path}.pointwise", f"{theirs}.conv_pw", f"{theirs}.bn2")
    yield "classifier", "classifier"


def mobilenet_v2(model: Any) -> Pairs:
    yield from conv_bn("stem", "conv_stem", "bn1")
    for stage, (path, blocks) in enumerate(children("stages", model.stages)):
        for i, (ours, block) in enumerate(children(path, blocks)):
            yield from inverted_residual(ours, f"blocks.{stage}.{i}", block)
    yield from conv_bn("head", "conv_head", "bn2")
    yield "classifier", "classifier"


def inverted_residual(ours: str, theirs: str, block: Any) -> Pairs:
    """Their InvertedResidual, or, where nothing expands, their DepthwiseSeparableConv."""
    expands = len(list(block.expand.children())) > 0
    if expands:
        yield from conv_bn(f"{ours}.expand", f"{theirs}.conv_pw", f"{theirs}.bn1")
    yield from conv_bn(f"{ours}.depthwise", f"{theirs}.conv_dw", f"{theirs}.bn{1 + expands}")
    yield f"{ours}.se.reduce", f"{theirs}.se.conv_reduce"
    yield f"{ours}.se.expand", f"{theirs}.se.conv_expand"
    yield from conv_bn(f"{ours}.project", f"{theirs}.conv_pw{'l' * expands}", f"{theirs}.bn{2 + expands}")


def xception(model: Any) -> Pairs:
    yield from conv_bn("stem.0", "conv1", "bn1")
    yield from conv_bn("stem.1", "conv2", "bn2")
    for i, (path, block) in enumerate(children("blocks", model.blocks), start=1):
        yield from conv_bn(f"{path}.shortcut", f"block{i}.skip", f"block{i}.skipbn")
        index = 0  # in theirs a separable convolution and its BatchNorm are two layers
        for ours, layer in children(f"{path}.body", block.body):
            if list(layer.children()):
                yield from xception_separable(ours, f"block{i}.rep.{index}", f"block{i}.rep.{index + 1}")
                index += 1
            index += 1
    yield from xception_separable("head.0", "conv3", "bn3")
    yield from xception_separable("head.2", "conv4", "bn4")
    yield "classifier", "fc"


def xception_separable(ours: str, conv: str, bn: str) -> Pairs:
    """Their SeparableConv2d and the BatchNorm after it."""
    yield f"{ours}.depthwise", f"{conv}.conv1"
    yield f"{ours}.pointwise", f"{conv}.pointwise"
    yield f"{ours}.bn", bn


def ghostnet(model: Any) -> Pairs:
    yield from conv_bn("stem", "conv_stem", "bn1")
    sizes = (1, 1, 1, 1, 1, 1, 5, 1, 4)  # theirs are grouped into stages
    names = (f"blocks.{stage}.{i}" for stage, size in enumerate(sizes) for i in range(size))
    for (ours, _), theirs in zip(children("blocks", model.blocks), names, strict=True):
        for ghost in ("ghost1", "ghost2"):
            yield f"{ours}.{ghost}.primary", f"{theirs}.{ghost}.primary_conv"
            yield f"{ours}.{ghost}.cheap", f"{theirs}.{ghost}.cheap_operation"
        yield from conv_bn(f"{ours}.depthwise", f"{theirs}.conv_dw", f"{theirs}.bn_dw")
        yield f"{ours}.se.reduce", f"{theirs}.se.conv_reduce"
        yield f"{ours}.se.expand", f"{theirs}.se.conv_expand"
        yield from conv_bn(f"{ours}.shortcut.0", f"{theirs}.shortcut.0", f"{theirs}.shortcut.1")
        yield from conv_bn(f"{ours}.shortcut.1", f"{theirs}.shortcut.2", f"{theirs}.shortcut.3")
    yield from conv_bn("head", "blocks.9.0.conv", "blocks.9.0.bn1")
    yield "hidden", "conv_head"
    yield "classifier", "classifier"


def mobilenet_v3(model: Any) -> Pairs:
    yield from conv_bn("stem", "conv_stem", "bn1")
    sizes = (1, 2, 3, 4, 2, 3) if len(model.blocks) == 15 else (1, 2, 3, 2, 3)  # of Large, of Small
    for (ours, block), theirs in zip(children("blocks", model.blocks), staged(sizes), strict=True):
        yield from inverted_residual(ours, theirs, block)
    head = f"blocks.{len(sizes)}.0"
    yield from conv_bn("head", f"{head}.conv", f"{head}.bn1")
    yield "hidden.0", "conv_head"
    yield "classifier", "classifier"


def lcnet(model: Any) -> Pairs:
    yield from conv_bn("stem", "conv_stem", "bn1")
    for (ours, _), theirs in zip(children("blocks", model.blocks), staged((1, 2, 2, 2, 4, 2)), strict=True):
        yield from conv_bn(f"{ours}.depthwise", f"{theirs}.conv_dw", f"{theirs}.bn1")
        yield f"{ours}.se.reduce", f"{theirs}.se.conv_reduce"
        yield f"{ours}.se.expand", f"{theirs}.se.conv_expand"
        yield from conv_bn(f"{ours}.pointwise", f"{theirs}.conv_pw", f"{theirs}.bn2")
    yield "hidden.0", "conv_head"
    yield "classifier", "classifier"


def mobilenet_v4_conv_small(model: Any) -> Pairs:
    yield from conv_bn("stem", "conv_stem", "bn1")
    fused, universal = children("blocks", model.blocks)[:2], children("blocks", model.blocks)[2:]
    for stage, (ours, _) in enumerate(fused):
        yield from conv_bn(f"{ours}.expand", f"blocks.{stage}.0.conv", f"blocks.{stage}.0.bn1")
        yield from conv_bn(f"{ours}.project", f"blocks.{stage}.1.conv", f"blocks.{stage}.1.bn1")
    parts = {"first": "dw_start", "expand": "pw_exp", "middle": "dw_mid", "project": "pw_proj"}
    for (ours, _), theirs in zip(universal, staged((0, 0, 6, 6)), strict=True):
        for part, other in parts.items():
            yield from conv_bn(f"{ours}.{part}", f"{theirs}.{other}.conv", f"{theirs}.{other}.bn")
    yield from conv_bn("head", "blocks.4.0.conv", "blocks.4.0.bn1")
    yield from conv_bn("hidden", "conv_head", "norm_head")
    yield "classifier", "classifier"


def mobileone_s0(model: Any) -> Pairs:
    yield from _mobileone_block("stem", "stem", model.stem)
    for stage, (path, blocks) in enumerate(children("stages", model.stages)):
        parts = [part for ours, block in children(path, blocks) for part in children(ours, block)]
        for i, (ours, part) in enumerate(parts):
            yield from _mobileone_block(ours, f"stages.{stage}.{i}", part)
    yield "classifier", "head.fc"


def _mobileone_block(ours: str, theirs: str, block: Any) -> Pairs:
    for i in range(len(block.branches)):
        yield from conv_bn(f"{ours}.branches.conv{i}", f"{theirs}.conv_kxk.{i}.conv", f"{theirs}.conv_kxk.{i}.bn")
    yield from conv_bn(f"{ours}.branches.scale", f"{theirs}.conv_scale.conv", f"{theirs}.conv_scale.bn")
    yield f"{ours}.branches.skip", f"{theirs}.identity"


def staged(sizes: Sequence[int]) -> Iterator[str]:
    """Their paths of blocks that they group into stages of these sizes, and we do not."""
    return (f"blocks.{stage}.{i}" for stage, size in enumerate(sizes) for i in range(size))


def vgg16(model: Any) -> Pairs:
    """Their fully connected layers are convolutions of 7x7 and 1x1."""
    yield from vgg16_features(model)
    yield "head.0.0", "pre_logits.fc1"
    yield "head.1.0", "pre_logits.fc2"
    yield "classifier", "head.fc"


LAYOUTS: dict[str, Layout] = {
    "efficientnet_lite0": mobilenet_v2,
    "ghostnet": ghostnet,
    "inception_v3": inception_v3,
    "lcnet": lcnet,
    "mnasnet_a1": mobilenet_v2,
    "mnasnet_b1": mobilenet_v2,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_large": mobilenet_v3,
    "mobilenet_v3_small": mobilenet_v3,
    "mobilenet_v4_conv_small": mobilenet_v4_conv_small,
    "mobileone_s0": mobileone_s0,
    "resnet18": resnet,
    "resnet50": resnet,
    "resnext50_32x4d": resnet,
    "vgg16": vgg16,
    "xception": xception,
}
