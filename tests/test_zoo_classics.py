"""LeNet, AlexNet, VGG-16, GoogLeNet and Inception V3 against public twins, and Caffe's networks written out by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from twins import check_twin

from swiftlet import create_model, load_weights
from swiftlet.cost.count import count_model
from swiftlet.errors import BadFile
from swiftlet.zoo.googlenet import ROWS


def from_torchvision(name: str, **arguments: object) -> nn.Module:
    import torchvision

    return getattr(torchvision.models, name)(weights=None, **arguments)


def from_timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name)


def inception_with_auxiliary_head() -> nn.Module:
    model = from_torchvision("inception_v3", aux_logits=True, transform_input=False, init_weights=False)
    model.AuxLogits.forward = lambda x: x  # it needs 299 pixels; its weights stay in the state dict
    return model


def narrow(model: nn.Module) -> nn.Module:
    """The same network with an eighth of the channels: at full width these are hundreds of megabytes."""

    def scale(channels: int) -> int:
        return channels if channels in (3, 1000) else channels // 8

    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv2d):
                c_in, c_out = scale(layer.in_channels), scale(layer.out_channels)
                setattr(parent, name, nn.Conv2d(c_in, c_out, layer.kernel_size, layer.stride, layer.padding))
            elif isinstance(layer, nn.Linear):
                setattr(parent, name, nn.Linear(scale(layer.in_features), scale(layer.out_features)))
    return model


@pytest.mark.parametrize(
    ("name", "arguments", "reference", "layout"),
    [
        ("alexnet", {"variant": "torchvision"}, from_torchvision, "torchvision"),
        ("vgg16", {}, from_torchvision, "torchvision"),
        ("vgg16", {}, from_timm, "timm"),  # its sides agree as long as no more than 7 x 7 are left
    ],
)
def test_alexnet_and_vgg16_are(name, arguments, reference, layout):
    with torch.device("meta"):
        theirs = reference(name)
        load_weights(create_model(name, **arguments), theirs.state_dict(), layout)  # names and shapes at full width
    check_twin(name, {"width": 0.125, **arguments}, lambda: narrow(theirs), layout)


def test_googlenet_is_torchvision_s():
    def reference() -> nn.Module:
        return from_torchvision("googlenet", aux_logits=False, transform_input=False, init_weights=False)

    check_twin("googlenet", {"variant": "torchvision"}, reference, "torchvision")


@pytest.mark.parametrize(
    ("reference", "layout"),
    [(inception_with_auxiliary_head, "torchvision"), (lambda: from_timm("inception_v3"), "timm")],
    ids=["torchvision", "timm"],
)
def test_inception_v3_is(reference, layout):
    check_twin("inception_v3", {}, reference, layout, sides=((107, 96), (75, 91)), train_side=(91, 75))


@pytest.mark.parametrize(
    ("name", "arguments", "side", "cost"),
    [  # published: 61.0 M / 724 M, 61.1 / 714, 138.4 / 15470, 7.0 / 1583, 6.6 / 1498, 23.8 / 5713, where they are
        ("lenet_300_100", {}, 28, (266_610, 784 * 300 + 300 * 100 + 100 * 10)),
        ("lenet_300_100", {"width": 0.5}, 28, (784 * 150 + 150 + 150 * 50 + 50 + 50 * 10 + 10, 125_600)),
        ("lenet5", {}, 28, (431_080, 2_293_000)),
        ("lenet5", {"width": 0.5}, 28, (260 + 6_275 + 100_250 + 2_510, 24**2 * 250 + 8**2 * 6_250 + 100_000 + 2_500)),
        ("alexnet", {}, 227, (60_965_224, 724_406_816)),
        ("alexnet", {"variant": "torchvision"}, 224, (61_100_840, 714_188_480)),
        ("vgg16", {}, 224, (138_357_544, 15_470_264_320)),
        ("vgg16", {"small_input": True, "num_classes": 10}, 32, (14_986_698, 313_463_808)),
        ("googlenet", {}, 224, (6_998_552, 1_582_671_872)),
        ("googlenet", {"variant": "torchvision"}, 224, (6_624_904, 1_498_376_192)),
        ("inception_v3", {}, 299, (23_834_568, 5_713_216_096)),
    ],
    ids=str,
)
def test_costs(name, arguments, side, cost):
    with torch.device("meta"):
        model = create_model(name, **arguments)
    found = count_model(model, (1 if name.startswith("lenet") else 3, side, side)).cost
    assert (found.params, found.macs) == cost


class CaffeNet:
    """Random weights under Caffe's names, and its layers as the documentation defines them."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.tensors: dict[str, Tensor] = {}
        for name, shape in shapes.items():
            std = (2 / torch.Size(shape[1:]).numel()) ** 0.5
            self.tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * std
            self.tensors[f"{name}.bias"] = torch.randn(shape[0], generator=generator)

    def conv(self, x: Tensor, name: str, **settings: int) -> Tensor:
        return F.relu(F.conv2d(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], **settings))

    def fc(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x.flatten(1), self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def lrn(self, x: Tensor) -> Tensor:
        """Divide by (1 + alpha / 5 * sum of the squares of five neighbouring channels)^beta."""
        squares = F.pad(x.square(), (0, 0, 0, 0, 2, 2))
        total = torch.stack([squares[:, i : i + x.shape[1]] for i in range(5)]).sum(0)
        return x / (1 + 1e-4 / 5 * total) ** 0.75

    def pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    def check(self, model: nn.Module, expected: Tensor, images: Tensor) -> None:
        """`expected` is what Caffe's layers made of the same images in BGR."""
        load_weights(model, self.tensors, "caffe")
        with torch.inference_mode():
            torch.testing.assert_close(
                model.eval()(images), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item()
            )


@pytest.mark.parametrize("side", [227, 224])
def test_alexnet_is_caffe_s(side):
    net = CaffeNet(
        {
            "conv1": (24, 3, 11, 11),
            "conv2": (64, 12, 5, 5),
            "conv3": (96, 64, 3, 3),
            "conv4": (96, 48, 3, 3),
            "conv5": (64, 48, 3, 3),
            "fc6": (1024, 64 * 36),
            "fc7": (1024, 1024),
            "fc8": (10, 1024),
        }
    )
    images = 100 * torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    x = net.pool(net.lrn(net.conv(images.flip(1), "conv1", stride=4)))
    x = net.pool(net.lrn(net.conv(x, "conv2", padding=2, groups=2)))
    x = net.conv(net.conv(x, "conv3", padding=1), "conv4", padding=1, groups=2)
    x = net.pool(net.conv(x, "conv5", padding=1, groups=2))
    x = net.fc(F.relu(net.fc(F.relu(net.fc(x, "fc6")), "fc7")), "fc8")
    net.check(create_model("alexnet", width=0.25, num_classes=10), x, images)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (75, 91)])
def test_googlenet_is_caffe_s(height, width):
    shapes = {
        "conv1/7x7_s2": (16, 3, 7, 7),
        "conv2/3x3_reduce": (16, 16, 1, 1),
        "conv2/3x3": (48, 16, 3, 3),
        "loss1/conv": (32, 128, 1, 1),  # of an auxiliary classifier, which is passed over
    }
    c = 48
    for name, row in ROWS.items():
        if row is not None:
            c1, c3_reduce, c3, c5_reduce, c5, c_pool = (channels // 4 for channels in row)
            shapes[f"{name}/1x1"] = (c1, c, 1, 1)
            shapes[f"{name}/3x3_reduce"] = (c3_reduce, c, 1, 1)
            shapes[f"{name}/3x3"] = (c3, c3_reduce, 3, 3)
            shapes[f"{name}/5x5_reduce"] = (c5_reduce, c, 1, 1)
            shapes[f"{name}/5x5"] = (c5, c5_reduce, 5, 5)
            shapes[f"{name}/pool_proj"] = (c_pool, c, 1, 1)
            c = c1 + c3 + c5 + c_pool
    net = CaffeNet(shapes | {"loss3/classifier": (10, 256)})
    images = 100 * torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    x = net.lrn(net.pool(net.conv(images.flip(1), "conv1/7x7_s2", stride=2, padding=3)))
    x = net.pool(net.lrn(net.conv(net.conv(x, "conv2/3x3_reduce"), "conv2/3x3", padding=1)))
    for name in ROWS:
        if "pool" in name:
            x = net.pool(x)
            continue
        one = net.conv(x, f"{name}/1x1")
        three = net.conv(net.conv(x, f"{name}/3x3_reduce"), f"{name}/3x3", padding=1)
        five = net.conv(net.conv(x, f"{name}/5x5_reduce"), f"{name}/5x5", padding=2)
        pool = net.conv(F.max_pool2d(x, 3, 1, 1), f"{name}/pool_proj")
        x = torch.cat([one, three, five, pool], 1)
    x = net.fc(x.mean((2, 3)), "loss3/classifier")
    net.check(create_model("googlenet", width=0.25, num_classes=10), x, images)


def test_a_transposed_matrix_is_refused():
    model = create_model("alexnet", width=0.1, variant="torchvision")
    names = {"blocks.conv1.0": "features.0", "blocks.conv2.0": "features.3", "blocks.conv3.0": "features.6"}
    names |= {"blocks.conv4.0": "features.8", "blocks.conv5.0": "features.10", "classifier": "classifier.6"}
    names |= {"head.fc6.0": "classifier.1", "head.fc7.0": "classifier.4"}
    theirs = {names[(path := name.rsplit(".", 1))[0]] + f".{path[1]}": t for name, t in model.state_dict().items()}
    theirs["classifier.1.weight"] = theirs["classifier.1.weight"].T
    with pytest.raises(BadFile, match=r"'classifier.1.weight' has shape"):
        load_weights(model, theirs, "torchvision")


def test_lenet5_has_one_relu():
    model = create_model("lenet5", width=0.3).eval()
    x = torch.randn(3, 1, 28, 28)
    y = F.max_pool2d(F.conv2d(x, model.conv1.weight, model.conv1.bias), 2)
    y = F.max_pool2d(F.conv2d(y, model.conv2.weight, model.conv2.bias), 2).flatten(1)
    y = F.linear(F.relu(F.linear(y, *model.fc1[0].parameters())), *model.classifier.parameters())
    torch.testing.assert_close(model(x), y)


@pytest.mark.parametrize(
    ("name", "arguments", "side", "reached"),
    [
        ("alexnet", {}, 227, 6),  # what average pooling leaves as it is
        ("alexnet", {"variant": "torchvision"}, 224, 6),
        ("alexnet", {}, 39, 1),  # the smallest that passes
        ("alexnet", {"variant": "torchvision"}, 63, 1),
        ("alexnet", {"small_input": True}, 32, 8),
        ("vgg16", {}, 224, 7),
        ("vgg16", {"small_input": True}, 32, 1),
        ("googlenet", {}, 224, 7),
        ("googlenet", {"small_input": True}, 32, 4),
        ("inception_v3", {}, 299, 8),
        ("inception_v3", {}, 75, 1),
        ("inception_v3", {"small_input": True}, 32, 5),
        ("inception_v3", {"small_input": True}, 13, 1),
    ],
    ids=str,
)
def test_side_before_the_pooling(name, arguments, side, reached):
    with torch.device("meta"):
        model = create_model(name, width=0.1, **arguments)
        before = nn.Sequential(*[part for path, part in model.named_children() if path in ("stem", "blocks", "stages")])
        assert before(torch.empty(2, 3, side, side)).shape[2:] == (reached, reached)
