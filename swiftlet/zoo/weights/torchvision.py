"""Names in torchvision."""

from collections.abc import Iterable
from typing import Any

from swiftlet.zoo.weights.layout import Layout, Pairs, children, conv_bn


def mobilenet_v2(model: Any) -> Pairs:
    yield "stem", "features.0"
    index = 0
    for path, blocks in children("stages", model.stages):
        for ours, block in children(path, blocks):
            index += 1
            theirs, expands = f"features.{index}.conv", len(list(block.expand.children())) > 0
            if expands:
                yield f"{ours}.expand", f"{theirs}.0"
            yield f"{ours}.depthwise", f"{theirs}.{0 + expands}"
            yield f"{ours}.project.0", f"{theirs}.{1 + expands}"
            yield f"{ours}.project.1", f"{theirs}.{2 + expands}"
    yield "head", f"features.{index + 1}"
    yield "classifier", "classifier.1"


def squeezenet(model: Any) -> Pairs:
    yield "stem.0", "features.0"
    for index, (path, _) in enumerate(children("blocks", model.blocks), start=3):  # poolings are counted too
        for part in ("squeeze", "expand1x1", "expand3x3"):
            yield f"{path}.{part}.0", f"features.{index}.{part}"
    yield "classifier", "classifier.1"


def mobilenet_v3(model: Any) -> Pairs:
    yield "stem", "features.0"
    for index, (ours, block) in enumerate(children("blocks", model.blocks), start=1):
        parts = (part for part in ("expand", "depthwise", "se", "project") if list(getattr(block, part).children()))
        for i, part in enumerate(parts):
            theirs = f"features.{index}.block.{i}"
            if part == "se":
                yield f"{ours}.se.reduce", f"{theirs}.fc1"
                yield f"{ours}.se.expand", f"{theirs}.fc2"
            else:
                yield f"{ours}.{part}", theirs
    yield "head", f"features.{len(model.blocks) + 1}"
    yield "hidden.0", "classifier.0"
    yield "classifier", "classifier.3"


def mnasnet_b1(model: Any) -> Pairs:
    yield "stem", "layers"
    for stage, (path, blocks) in enumerate(children("stages", model.stages)):
        for i, (ours, block) in enumerate(children(path, blocks)):
            # layers.0 to .2 are the stem, .3 to .7 the separable convolution, then each stage is one layer
            theirs, index = (f"layers.{7 + stage}.{i}.layers", 0) if stage else ("layers", 3)
            for part in ("expand", "depthwise", "project"):
                if list(getattr(block, part).children()):
                    yield from conv_bn(f"{ours}.{part}", f"{theirs}.{index}", f"{theirs}.{index + 1}")
                    index += 3
    yield from conv_bn("head", "layers.14", "layers.15")
    yield "classifier", "classifier.1"


def resnet(model: Any) -> Pairs:
    yield from conv_bn("stem", "conv1", "bn1")
    for stage, (path, blocks) in enumerate(children("stages", model.stages), start=1):
        for i, (ours, block) in enumerate(children(path, blocks)):
            for j, (layer, _) in enumerate(children(f"{ours}.body", block.body), start=1):
                yield from conv_bn(layer, f"layer{stage}.{i}.conv{j}", f"layer{stage}.{i}.bn{j}")
            yield f"{ours}.shortcut", f"layer{stage}.{i}.downsample"
    yield "classifier", "fc"


def alexnet(model: Any) -> Pairs:
    yield from plain_features(children("blocks", model.blocks))
    yield "head.fc6.0", "classifier.1"
    yield "head.fc7.0", "classifier.4"
    yield "classifier", "classifier.6"


def vgg16(model: Any) -> Pairs:
    yield from vgg16_features(model)
    yield "head.0.0", "classifier.0"
    yield "head.1.0", "classifier.3"
    yield "classifier", "classifier.6"


def vgg16_features(model: Any) -> Pairs:
    stages = children("stages", model.stages)
    return plain_features(layer for path, stage in stages for layer in children(path, stage))


def plain_features(layers: Iterable[tuple[str, Any]]) -> Pairs:
    """Their one long chain, in which each convolution, ReLU and pooling has a number."""
    index = 0
    for path, layer in layers:
        if list(layer.children()):
            yield f"{path}.0", f"features.{index}"
            index += 1
        index += 1


def shufflenet_v2(model: Any) -> Pairs:
    yield "stem.0", "conv1"
    for stage, (path, units) in enumerate(children("stages", model.stages), start=2):
        for i, (ours, unit) in enumerate(children(path, units)):
            theirs = f"stage{stage}.{i}"
            for j, _ in enumerate(unit.left):
                yield from conv_bn(f"{ours}.left.{j}", f"{theirs}.branch1.{2 * j}", f"{theirs}.branch1.{2 * j + 1}")
            for j, index in enumerate((0, 3, 5)):  # a ReLU after the first and the last
                yield from conv_bn(f"{ours}.right.{j}", f"{theirs}.branch2.{index}", f"{theirs}.branch2.{index + 1}")
    yield "head", "conv5"
    yield "classifier", "fc"


def googlenet(model: Any) -> Pairs:
    for ours, theirs in (("conv1", "conv1"), ("conv2_reduce", "conv2"), ("conv2", "conv3")):
        yield from conv_bn(f"stem.{ours}", f"{theirs}.conv", f"{theirs}.bn")
    for name, block in model.blocks.named_children():
        if list(block.children()):
            ours, theirs = f"blocks.{name}", name.replace("_", "")
            yield from conv_bn(f"{ours}.conv1x1", f"{theirs}.branch1.conv", f"{theirs}.branch1.bn")
            for i in (0, 1):
                yield from conv_bn(f"{ours}.conv3x3.{i}", f"{theirs}.branch2.{i}.conv", f"{theirs}.branch2.{i}.bn")
                yield from conv_bn(f"{ours}.conv5x5.{i}", f"{theirs}.branch3.{i}.conv", f"{theirs}.branch3.{i}.bn")
            yield from conv_bn(f"{ours}.pool.1", f"{theirs}.branch4.1.conv", f"{theirs}.branch4.1.bn")
    yield "classifier", "fc"


def inception_v3(model: Any) -> Pairs:
    pairs = [
        ("stem.conv1a", "Conv2d_1a_3x3"),
        ("stem.conv2a", "Conv2d_2a_3x3"),
        ("stem.conv2b", "Conv2d_2b_3x3"),
        ("stem.conv3b", "Conv2d_3b_1x1"),
        ("stem.conv4a", "Conv2d_4a_3x3"),
    ]
    for name, block in model.blocks.named_children():
        for branch, layers in block.named_children():
            theirs = f"{name.capitalize()}.branch{'_' * (branch == 'pool')}{branch}"
            convs = [pair for pair in children(f"blocks.{name}.{branch}", layers) if list(pair[1].children())]
            for i, (ours, layer) in enumerate(convs, start=1):
                where = f"{theirs}_{i}" if len(convs) > 1 else theirs
                forks = [(f"{ours}.{part}", where + part) for part, _ in layer.named_children() if part in ("a", "b")]
                pairs += forks or [(ours, where)]
    for ours, theirs in pairs:
        yield from conv_bn(ours, f"{theirs}.conv", f"{theirs}.bn")
    yield "classifier", "fc"


LAYOUTS: dict[str, Layout] = {
    "alexnet": alexnet,
    "googlenet": googlenet,
    "inception_v3": inception_v3,
    "mnasnet_b1": mnasnet_b1,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_large": mobilenet_v3,
    "mobilenet_v3_small": mobilenet_v3,
    "resnet18": resnet,
    "resnet50": resnet,
    "resnext50_32x4d": resnet,
    "shufflenet_v2": shufflenet_v2,
    "squeezenet1_0": squeezenet,
    "squeezenet1_1": squeezenet,
    "vgg16": vgg16,
}
