"""ResNets and MobileOne: counts of two widths, the public implementations with the same weights, real weights."""

import io
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from needs import data_folder
from PIL import Image
from torch import Tensor, nn
from twins import check_twin

from swiftlet.cost.count import count_model
from swiftlet.errors import BadInput
from swiftlet.zoo import card, create_model
from swiftlet.zoo.weights.load import assign

COUNTS = [
    ("resnet18", {}, 11_689_512, 1_814_073_344),
    ("resnet18", {"width": 0.5}, 3_055_880, 483_149_824),
    ("resnet50", {}, 25_557_032, 4_089_184_256),
    ("resnet50", {"version": 1}, 25_557_032, 3_857_973_248),
    ("resnet50", {"width": 0.5}, 6_917_640, 1_052_311_552),
    ("resnext50_32x4d", {}, 25_028_904, 4_230_479_872),
    ("resnext50_32x4d", {"width": 0.5}, 6_789_384, 1_087_635_456),
    ("resnet20", {}, 269_722, 40_551_040),
    ("resnet20", {"width": 0.5}, 68_050, 10_248_512),
    ("resnet56", {}, 853_018, 125_485_696),
    ("mobileone_s0", {}, 5_293_272, 1_051_935_232),
    ("mobileone_s0", {"width": 0.5}, 1_636_960, 281_911_552),
]


@pytest.mark.parametrize(("name", "arguments", "params", "macs"), COUNTS, ids=str)
def test_counts(name, arguments, params, macs):
    with torch.device("meta"):
        cost = count_model(create_model(name, **arguments), card(name).input).cost
    assert (cost.params, cost.macs) == (params, macs)


def torchvision_resnet(name: str, width: float = 1.0) -> nn.Module:
    """Theirs, or their blocks at half the width, for which they have no argument of their own."""
    import torchvision

    class Half(torchvision.models.ResNet):
        def _make_layer(self, block, planes, *args, **kwargs):
            if planes == 64:
                self.inplanes, self.conv1, self.bn1 = 32, nn.Conv2d(3, 32, 7, 2, 3, bias=False), nn.BatchNorm2d(32)
            return super()._make_layer(block, planes // 2, *args, **kwargs)

    whole = getattr(torchvision.models, name)(weights=None)
    if width == 1.0:
        return whole
    block = type(whole.layer1[0])
    half = Half(block, [len(stage) for stage in (whole.layer1, whole.layer2, whole.layer3, whole.layer4)],
                groups=whole.groups, width_per_group=whole.base_width)  # fmt: skip
    half.fc = nn.Linear(256 * block.expansion, 1000)
    return half


def stride_first(model: nn.Module) -> nn.Module:
    """ResNet-50 as in the paper: a block halves the sides in its first convolution."""
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return model


def timm_model(name: str, **arguments: object) -> nn.Module:
    import timm

    return timm.create_model(name, **arguments)


TWINS = [
    ("resnet18", {}, partial(torchvision_resnet, "resnet18"), "torchvision"),
    ("resnet18", {"width": 0.5}, partial(torchvision_resnet, "resnet18", 0.5), "torchvision"),
    ("resnet18", {}, partial(timm_model, "resnet18"), "timm"),
    ("resnet50", {}, partial(torchvision_resnet, "resnet50"), "torchvision"),
    ("resnet50", {"width": 0.5}, partial(torchvision_resnet, "resnet50", 0.5), "torchvision"),
    ("resnet50", {"version": 1}, lambda: stride_first(torchvision_resnet("resnet50")), "torchvision"),
    ("resnet50", {}, partial(timm_model, "resnet50"), "timm"),
    ("resnext50_32x4d", {}, partial(torchvision_resnet, "resnext50_32x4d"), "torchvision"),
    ("resnext50_32x4d", {"width": 0.5}, partial(torchvision_resnet, "resnext50_32x4d", 0.5), "torchvision"),
    ("resnext50_32x4d", {}, partial(timm_model, "resnext50_32x4d"), "timm"),
    ("mobileone_s0", {}, partial(timm_model, "mobileone_s0"), "timm"),
    ("mobileone_s0", {"width": 0.5}, partial(timm_model, "mobileone_s0", width_factor=0.5), "timm"),
]


@pytest.mark.parametrize(("name", "arguments", "reference", "layout"), TWINS, ids=lambda value: str(value)[:20])
def test_equal_to_public_implementations(name, arguments, reference, layout):
    check_twin(name, arguments, reference, layout, sides=((64, 64), (49, 75)), train_side=(38, 33))


def test_version_of_resnet50_is_checked():
    assert create_model("resnet50", version=1.5, width=0.1).stages[1][0].body[1][0].stride == (2, 2)
    with pytest.raises(BadInput, match="version=2 must be 1 "):
        create_model("resnet50", version=2)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_small_input_keeps_more_pixels(name):
    with torch.device("meta"):
        model = create_model(name, small_input=True, width=0.1)
    layers = count_model(model, (3, 32, 32)).layers
    heights = [layer.output[2] for layer in layers if layer.op == "convolution"]
    assert heights[0] == 32 and heights[-1] == 4 == min(heights)


def padded(x: Tensor, c_out: int) -> Tensor:
    """The shortcut as the paper words it: every second pixel, zeros for the channels that are lacking."""
    extra = (c_out - x.shape[1]) // 2
    return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, extra, extra))


@pytest.mark.parametrize("width", [0.37, 1.0])
def test_shortcuts_of_the_cifar_networks_are_zero_padded(width):
    block = create_model("resnet20", width=width).eval().stages[1][0]
    channels = block.body[0][0].in_channels
    x = torch.randn(2, channels, 9, 8)
    with torch.inference_mode():
        y = block.body(x)
        torch.testing.assert_close(block(x), torch.relu(y + padded(x, y.shape[1])), rtol=0, atol=0)


def akamaster_pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Names in akamaster/pytorch_resnet_cifar10."""
    pairs = [("stem.0", "conv1"), ("stem.1", "bn1"), ("classifier", "linear")]
    for s, stage in enumerate(model.stages):
        for b, _ in enumerate(stage):
            for i in range(2):
                ours, theirs = f"stages.{s}.{b}.body.{i}", f"layer{s + 1}.{b}"
                pairs += [(f"{ours}.0", f"{theirs}.conv{i + 1}"), (f"{ours}.1", f"{theirs}.bn{i + 1}")]
    return pairs


def test_real_weights_of_resnet20():
    """91.5 % on the original images, about 81 % on these, which are JPEG at quality 75: see the data's README."""
    file = data_folder("weights") / "cifar10_resnet20.th"
    stored = torch.load(file, weights_only=True, map_location="cpu")["state_dict"]
    model = create_model("resnet20").eval()
    assign(model, {k.removeprefix("module."): v for k, v in stored.items()}, akamaster_pairs(model), str(file))
    with np.load(data_folder("cifar10") / "cifar10_jpeg.npz") as packed:
        data, ends, labels = packed["jpeg_test"], packed["off_test"][:1001], packed["y_test"][:1000]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(data[a:b]))) for a, b in pairwise(ends)])
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = torch.from_numpy((pixels / 255 - mean) / std).float().permute(0, 3, 1, 2)
    with torch.inference_mode():
        guesses = torch.cat([model(batch).argmax(1) for batch in images.split(250)])
    assert 78 < 100 * (guesses.numpy() == labels).mean() < 84
