"""The MobileNets and their relatives: public twins with the same weights, and every size that the papers print."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from twins import check_twin, randomise

from swiftlet import create_model, load_weights
from swiftlet.cost.count import count_model

SIDES = {"sides": ((64, 48), (75, 97)), "train_side": (43, 38)}


def public(library: str, name: str, **arguments: Any) -> nn.Module:
    if library == "timm":
        import timm

        return timm.create_model(name, **arguments)
    import torchvision

    return getattr(torchvision.models, name)(weights=None, **arguments)


SAME = {"padding": "tensorflow"}
THEIRS = {"variant": "torchvision"}
# our network and its arguments, the library, its network and its arguments
TWINS = [
    ("mobilenet_v1", {}, "timm", "mobilenetv1_100", {"act_layer": "relu"}),  # as in the paper
    ("mobilenet_v1", {"act": "relu6"}, "timm", "mobilenetv1_100", {}),
    ("mobilenet_v1", {"width": 1.25}, "timm", "mobilenetv1_125", {"act_layer": "relu"}),
    ("mobilenet_v2", {}, "timm", "mobilenetv2_100", {}),
    ("mobilenet_v2", {"width": 1.4}, "timm", "mobilenetv2_140", {}),
    ("mobilenet_v2", {"width": 0.35}, "torchvision", "mobilenet_v2", {"width_mult": 0.35}),
    ("mobilenet_v3_large", {}, "timm", "mobilenetv3_large_100", {}),
    ("mobilenet_v3_small", {}, "timm", "mobilenetv3_small_100", {}),
    ("mobilenet_v3_large", {"width": 0.75} | SAME, "timm", "tf_mobilenetv3_large_075", {}),
    ("mobilenet_v3_small", {"width": 0.75} | SAME, "timm", "tf_mobilenetv3_small_075", {}),
    ("mobilenet_v3_large", {"minimalistic": True} | SAME, "timm", "tf_mobilenetv3_large_minimal_100", {}),
    ("mobilenet_v3_small", {"minimalistic": True} | SAME, "timm", "tf_mobilenetv3_small_minimal_100", {}),
    ("mobilenet_v3_large", THEIRS, "torchvision", "mobilenet_v3_large", {}),
    ("mobilenet_v3_large", {"width": 0.75} | THEIRS, "torchvision", "mobilenet_v3_large", {"width_mult": 0.75}),
    ("mobilenet_v3_small", THEIRS, "torchvision", "mobilenet_v3_small", {}),
    ("mobilenet_v3_small", {"width": 0.37} | THEIRS, "torchvision", "mobilenet_v3_small", {"width_mult": 0.37}),
    ("mnasnet_a1", {}, "timm", "semnasnet_100", {}),
    ("mnasnet_a1", {"width": 0.75}, "timm", "semnasnet_075", {}),
    ("mnasnet_b1", {}, "timm", "mnasnet_100", {}),
    ("mnasnet_b1", {"width": 0.5}, "timm", "mnasnet_050", {}),
    ("mnasnet_b1", {}, "torchvision", "mnasnet1_0", {}),
    ("mnasnet_b1", {"width": 0.5}, "torchvision", "mnasnet0_5", {}),
    ("efficientnet_lite0", {}, "timm", "efficientnet_lite0", {}),
    ("efficientnet_lite0", SAME, "timm", "tf_efficientnet_lite0", {}),
    ("mobilenet_v4_conv_small", {}, "timm", "mobilenetv4_conv_small", {}),
    ("mobilenet_v4_conv_small", {"width": 0.5}, "timm", "mobilenetv4_conv_small_050", {}),
]


@pytest.mark.parametrize(("name", "ours", "library", "twin", "theirs"), TWINS)
def test_twins(name, ours, library, twin, theirs):
    check_twin(name, ours, lambda: public(library, twin, **theirs), library, **SIDES)


@pytest.mark.parametrize(("width", "twin"), [(1.0, "lcnet_100"), (0.5, "lcnet_050")])
def test_lcnet_twins(width, twin):
    """Larger sides: h-swish after h-swish, with no sum around, wears random signals down, small ones first."""
    check_twin("lcnet", {"width": width}, lambda: public("timm", twin), "timm", sides=((224, 224), (193, 225)))


def count(name: str, side: int = 224, **arguments: object) -> tuple[int, int]:
    """Parameters, multiply-adds. On meta tensors: nothing is allocated, nothing is drawn."""
    with torch.device("meta"):
        model = create_model(name, **arguments)
    cost = count_model(model, (3, side, side)).cost
    return cost.params, cost.macs


# parameters, {side: multiply-adds}; what the papers and their authors print for them stands behind
PRINTED = [
    ("mobilenet_v1", {"full_convolution": True}, 29_294_088, {224: 4_867_293_184}),  # 29.3 M, 4866 M
    ("mobilenet_v1", {"shallow": True}, 2_887_976, {224: 307_323_392}),  # 2.9 M, 307 M
    (
        "mobilenet_v3_large",
        {},
        5_483_032,  # 5.4 M
        # 282 M, 217 M, 160 M, 112 M, 73 M, 43 M
        {256: 281_663_360, 224: 216_589_760, 192: 160_192_640, 160: 112_472_000, 128: 73_427_840, 96: 43_060_160},
    ),
    ("mobilenet_v3_large", {"width": 1.25}, 7_551_976, {224: 355_221_920}),  # 7.5 M, 356 M
    ("mobilenet_v3_large", {"width": 0.75}, 3_993_528, {224: 154_560_624}),  # 4.0 M, 155 M
    ("mobilenet_v3_large", {"width": 0.5}, 2_689_520, {224: 69_247_600}),  # 2.6 M, 69 M
    ("mobilenet_v3_large", {"width": 0.35}, 2_131_832, {224: 39_472_336}),  # 2.2 M, 40 M
    ("mobilenet_v3_large", {"minimalistic": True}, 3_924_288, {224: 209_136_704}),  # 3.9 M, 209 M
    (
        "mobilenet_v3_small",
        {},
        2_542_856,  # 2.5 M
        # 74 M, 57 M, 42 M, 30 M, 20 M, 12 M
        {256: 73_175_040, 224: 56_510_400, 192: 42_067_712, 160: 29_846_976, 128: 19_848_192, 96: 12_071_360},
    ),
    ("mobilenet_v3_small", {"width": 1.25}, 3_645_960, {224: 91_241_184}),  # 3.6 M, 91 M
    ("mobilenet_v3_small", {"width": 0.75}, 2_041_872, {224: 43_399_344}),  # 2.0 M, 44 M
    ("mobilenet_v3_small", {"width": 0.5}, 1_592_704, {224: 21_052_560}),  # 1.6 M, 21 M
    ("mobilenet_v3_small", {"width": 0.35}, 1_358_288, {224: 12_815_840}),  # 1.4 M, 12 M
    ("mobilenet_v3_small", {"minimalistic": True}, 2_044_736, {224: 52_288_448}),  # 2.0 M; 65 M is an older network's
    ("mnasnet_a1", {}, 3_887_038, {224: 311_579_072}),  # 3.9 M, 312 M
    ("mnasnet_a1", {"width": 1.4}, 6_105_992, {224: 586_317_952}),  # 6.1 M, 591.5 M
    ("mnasnet_a1", {"width": 0.35}, 1_747_018, {224: 61_681_920}),  # 1.7 M, 63 M
    ("mnasnet_b1", {}, 4_383_312, {224: 314_415_872}),  # 4.4 M, 315 M
    ("efficientnet_lite0", {}, 4_652_008, {224: 385_187_552}),  # 4.7 M, 407 M
    ("mobilenet_v4_conv_small", {}, 3_774_024, {224: 186_005_568}),  # 3.8 M, 0.2 G
    ("lcnet", {}, 2_953_800, {224: 155_700_480}),  # 3.0 M, 161 M
    ("lcnet", {"width": 0.25}, 1_522_464, {224: 16_773_440}),  # 1.5 M, 18 M
    ("lcnet", {"width": 2.5}, 9_018_840, {224: 893_719_680}),  # 9.0 M, 906 M
]


@pytest.mark.parametrize(("name", "arguments", "params", "macs"), PRINTED)
def test_printed_sizes(name, arguments, params, macs):
    for side, expected in macs.items():
        assert count(name, side, **arguments) == (params, expected), side


def test_v3_saves_what_section_5_1_says():
    macs = count("mobilenet_v3_large")[1]
    assert count("mobilenet_v3_large", tail="original")[1] - macs == pytest.approx(30e6, rel=0.15)
    assert count("mobilenet_v3_large", stem=32)[1] - macs == pytest.approx(10e6, rel=0.05)


def test_v3_tails_and_stems_at_another_width():
    x = torch.randn(2, 3, 64, 48)
    for name in ("mobilenet_v3_large", "mobilenet_v3_small"):
        for arguments in ({"stem": 32}, {"tail": "original"}, {"stem": 32, "variant": "torchvision"}):
            assert create_model(name, width=0.37, num_classes=7, **arguments)(x).shape == (2, 7)


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small", "mnasnet_a1", "lcnet"])
def test_int8_safe_keeps_the_convolutions(name):
    """Without SE and h-swish, the rest keeps its names, and so its weights."""
    whole, safe = (create_model(name, width=0.25, int8_safe=flag) for flag in (False, True))
    kept = {path: tensor.shape for path, tensor in whole.state_dict().items() if ".se." not in path}
    assert {path: tensor.shape for path, tensor in safe.state_dict().items()} == kept
    assert not any(isinstance(m, nn.Hardswish | nn.Hardsigmoid | nn.Sigmoid) for m in safe.modules())


@pytest.mark.parametrize(("shortcut", "adds"), [("identity", 10), ("projection", 13), ("none", 0)])
def test_v2_shortcuts(shortcut, adds):
    """17 blocks, 4 of stride 2, 3 of stride 1 that change the channels."""
    with torch.device("meta"):
        model = create_model("mobilenet_v2", shortcut=shortcut)
    layers = count_model(model).layers
    assert [layer.op for layer in layers].count("add") == adds
    projections = [m for path, m in model.named_modules() if path.endswith("shortcut.0")]
    assert len(projections) == (3 if shortcut == "projection" else 0)
    assert all(m.stride == (1, 1) and m.kernel_size == (1, 1) for m in projections)


def slim_blocks(name: str, model: Any) -> Iterator[tuple[str, Any, bool]]:
    """(slim's scope, our layer, with BatchNorm) for every layer with weights, written from slim's code."""
    if name == "mobilenet_v1":
        yield "MobilenetV1/Conv2d_0", model.stem, True
        for i, block in enumerate(model.blocks, start=1):
            yield f"MobilenetV1/Conv2d_{i}_depthwise", block.depthwise, True
            yield f"MobilenetV1/Conv2d_{i}_pointwise", block.pointwise, True
        yield "MobilenetV1/Logits/Conv2d_1c_1x1", model.classifier, False
        return
    root = "MobilenetV2" if name == "mobilenet_v2" else "MobilenetV3"
    yield f"{root}/Conv", model.stem, True
    blocks = [block for stage in model.stages for block in stage] if name == "mobilenet_v2" else list(model.blocks)
    for i, block in enumerate(blocks):
        scope = f"{root}/expanded_conv_{i}" if i > 0 else f"{root}/expanded_conv"
        if i > 0:
            yield f"{scope}/expand", block.expand, True
        yield f"{scope}/depthwise", block.depthwise, True
        if hasattr(getattr(block, "se", None), "reduce"):
            yield f"{scope}/squeeze_excite/Conv", block.se.reduce, False
            yield f"{scope}/squeeze_excite/Conv_1", block.se.expand, False
        yield f"{scope}/project", block.project, True
    yield f"{root}/Conv_1", model.head, True
    if root == "MobilenetV3":
        yield f"{root}/Conv_2", model.hidden[0], False
    yield f"{root}/Logits/Conv2d_1c_1x1", model.classifier, False


def slim_state(name: str, model: nn.Module) -> dict[str, Tensor]:
    """The network as slim's checkpoints hold it: 1001 classes, other axes, and what training leaves behind."""
    state: dict[str, Tensor] = {"global_step": torch.tensor(7)}
    for scope, layer, normalised in slim_blocks(name, model):
        conv = layer[0] if normalised else layer
        weight, bias = conv.weight.detach(), conv.bias
        if scope.endswith("Conv2d_1c_1x1"):
            weight = torch.cat([torch.full_like(weight[:1], 9.0), weight])[:, :, None, None]
            bias = torch.cat([torch.tensor([9.0]), bias])
        kind = "depthwise_weights" if "depthwise" in scope else "weights"
        order = "oihw->hwoi" if kind == "depthwise_weights" else "oihw->hwio"  # a depthwise i is slim's multiplier, 1
        state[f"{scope}/{kind}"] = torch.einsum(order, weight).contiguous()
        state[f"{scope}/{kind}/ExponentialMovingAverage"] = torch.zeros(1)
        if bias is not None:
            state[f"{scope}/biases"] = bias.detach()
        if normalised:
            bn = layer[1]
            for leaf, tensor in (
                ("gamma", bn.weight),
                ("beta", bn.bias),
                ("moving_mean", bn.running_mean),
                ("moving_variance", bn.running_var),
            ):
                state[f"{scope}/BatchNorm/{leaf}"] = tensor.detach()
    return state


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
def test_slim_checkpoints(name):
    source = randomise(create_model(name, width=0.5, padding="tensorflow")).eval()
    state = slim_state(name, source)
    loaded = load_weights(create_model(name, width=0.5, padding="tensorflow"), state, "tf-slim").eval()
    background = load_weights(create_model(name, width=0.5, num_classes=1001, **SAME), state, "tf-slim").eval()
    x = torch.randn(2, 3, 65, 96)
    with torch.inference_mode():
        expected = source(x)
        assert torch.equal(loaded(x), expected)
        torch.testing.assert_close(background(x)[:, 1:], expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
