"""SqueezeNet, Xception, GhostNet and its CIFAR networks against their papers, public code and real weights."""

import csv
import itertools

import numpy as np
import pytest
import torch
from needs import data_folder
from PIL import Image
from torch import Tensor, nn
from twins import check_twin, randomise

from swiftlet import create_model, load_weights
from swiftlet.cost.count import Count, count_model
from swiftlet.errors import BadInput
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.ghost import GhostModule
from swiftlet.layers.padding import SameMaxPool2d
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.zoo.squeezenet import Fire


def counted(name: str, side: int, **arguments: object) -> Count:
    with torch.device("meta"):
        return count_model(create_model(name, **arguments), (3, side, side))


def torchvision_model(name: str) -> nn.Module:
    import torchvision

    return getattr(torchvision.models, name)(weights=None)


def timm_model(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, drop_rate=0.0)  # a function in theirs, which check_twin cannot find


@pytest.mark.parametrize(
    ("name", "arguments", "side", "params", "macs"),
    [
        ("squeezenet1_0", {}, 227, 1_248_424, 861_339_936),  # the repository's 1.72 GFLOP
        ("squeezenet1_0", {"conv10_padding": 0}, 227, 1_248_424, 832_667_936),  # 833 M in ShuffleNet, table 6
        ("squeezenet1_0", {"conv10_padding": 0}, 224, 1_248_424, 818_924_576),
        ("squeezenet1_0", {"bypass": "simple"}, 227, 1_248_424, 861_339_936),
        ("squeezenet1_0", {"bypass": "complex"}, 227, 1_589_672, 1_212_625_184),
        ("squeezenet1_1", {}, 227, 1_235_496, 387_747_520),
        ("squeezenet1_1", {}, 224, 1_235_496, 349_151_936),
        ("xception", {}, 299, 22_855_952, 8_357_403_496),  # table 3
        ("xception", {"width": 0.5}, 299, 6_292_444, 2_127_705_876),
        ("ghostnet", {}, 224, 5_182_508, 141_150_512),  # table 7: 5.2 M, 141 M; 2.6, 42; 7.3, 226
        ("ghostnet", {"width": 0.5}, 224, 2_587_292, 42_328_152),
        ("ghostnet", {"width": 1.3}, 224, 7_358_820, 227_003_256),
    ],
)
def test_published_counts(name, arguments, side, params, macs):
    cost = counted(name, side, **arguments).cost
    assert (cost.params, cost.macs) == (params, macs)


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1"])
def test_squeezenet_equals_torchvision(name):
    arguments = {"conv10_padding": 0} if name == "squeezenet1_0" else {}
    check_twin(name, arguments, lambda: torchvision_model(name), "torchvision", sides=((96, 96), (97, 75)))


def test_xception_equals_timm():
    check_twin("xception", {}, lambda: timm_model("legacy_xception"), "timm", sides=((64, 64), (75, 59)))


@pytest.mark.parametrize(("width", "theirs"), [(0.5, "ghostnet_050"), (1.0, "ghostnet_100"), (1.3, "ghostnet_130")])
def test_ghostnet_equals_timm(width, theirs):
    check_twin("ghostnet", {"width": width}, lambda: timm_model(theirs), "timm", sides=((96, 96), (97, 75)))


# --- SqueezeNet -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("squeeze_ratio", "megabytes"), [(0.125, 4.8), (0.5, 13), (0.75, 19)])
def test_squeeze_ratios_give_the_sizes_of_figure_3(squeeze_ratio, megabytes):
    size = counted("squeezenet1_0", 227, squeeze_ratio=squeeze_ratio).cost.size_bytes
    assert size / 2**20 == pytest.approx(megabytes, abs=0.6)


def test_meta_parameters_of_section_5():
    model = create_model("squeezenet1_0", base_expand=40, increase=24, frequency=3, pct_3x3=0.25, squeeze_ratio=0.5)
    fires = [fire for fire in model.blocks if isinstance(fire, Fire)]
    widths = [[branch[0].out_channels for branch in (f.squeeze, f.expand1x1, f.expand3x3)] for f in fires]
    assert widths == [[20, 30, 10]] * 3 + [[32, 48, 16]] * 3 + [[44, 66, 22]] * 2
    with pytest.raises(BadInput, match=r"pct_3x3=1.0 leaves no 1x1 filters"):
        create_model("squeezenet1_0", pct_3x3=1.0)


@pytest.mark.parametrize(("pool", "after"), [("late", ["fire4", "fire8"]), ("early", ["fire3", "fire5"])])
def test_pooling_late_and_early(pool, after):
    names = [name for name, _ in create_model("squeezenet1_0", pool=pool).blocks.named_children()]
    assert [a for a, b in itertools.pairwise(names) if b.startswith("pool")] == after


def test_bypass_is_nothing_but_added():
    fire = randomise(Fire(96, 16, 48, 48, "simple"))
    plain = Fire(96, 16, 48, 48, "none")
    plain.load_state_dict(fire.state_dict())
    x = torch.randn(2, 96, 7, 5)
    torch.testing.assert_close(fire(x), x + plain(x))

    model = randomise(create_model("squeezenet1_0", bypass="complex", width=0.25))
    kinds = {name: type(fire.bypass) for name, fire in model.blocks.named_children() if isinstance(fire, Fire)}
    assert kinds == {f"fire{n}": nn.Identity if n % 2 else nn.Conv2d for n in range(2, 10)}  # figure 2
    for fire in model.blocks:
        if isinstance(fire, Fire):
            fire.bypass = None
    vanilla = create_model("squeezenet1_0", width=0.25)
    vanilla.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 65, 80)
    torch.testing.assert_close(model.eval()(x), vanilla.eval()(x))


FIRES = [f"fire{n}/{part}" for n in range(2, 10) for part in ("squeeze1x1", "expand1x1", "expand3x3")]
CAFFE = [f"{layer}.{kind}" for layer in ("conv1", *FIRES, "conv10") for kind in ("weight", "bias")]


def test_caffe_layout_turns_conv1_to_rgb():
    theirs = randomise(torchvision_model("squeezenet1_1")).eval()
    caffe = dict(zip(CAFFE, theirs.state_dict().values(), strict=True))
    ours = load_weights(create_model("squeezenet1_1"), caffe, "caffe").eval()
    rgb = torch.randn(1, 3, 65, 80)
    with torch.inference_mode():
        torch.testing.assert_close(ours(rgb), theirs(rgb.flip(1)))


def caffe_photos() -> tuple[Tensor, Tensor]:
    """imagenet250 as Caffe's SqueezeNet sees it, but for RGB: (250, 3, 227, 227), and the classes."""
    folder = data_folder("imagenet250")
    rows = list(csv.DictReader((folder / "labels.csv").read_text().splitlines()))
    pixels = []
    for row in rows:
        with Image.open(folder / "images" / row["file"]) as photo:
            left, top = (photo.width - 227) // 2, (photo.height - 227) // 2
            pixels.append(np.asarray(photo.convert("RGB").crop((left, top, left + 227, top + 227))))
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) - torch.tensor([123.0, 117.0, 104.0]).view(3, 1, 1)
    return images, torch.tensor([int(row["index"]) for row in rows])


def test_squeezenet_with_real_weights_on_photos():
    """The released network after Deep Compression, in ours and in torchvision's class: top-1 within a point."""
    with np.load(data_folder("weights/squeezenet1_0_deepcomp_imagenet.npz")) as file:
        tensors = [torch.from_numpy(file[name]) for name in file.files]  # in the order of the layers, conv1 reads BGR
    ours = load_weights(create_model("squeezenet1_0"), dict(zip(CAFFE, tensors, strict=True)), "caffe").eval()
    theirs = torchvision_model("squeezenet1_0").eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors, strict=True)))
    theirs.classifier[1].padding = (1, 1)
    images, classes = caffe_photos()
    right = torch.zeros(2)
    with torch.inference_mode():
        for batch, labels in zip(images.split(10), classes.split(10), strict=True):
            logits = torch.stack([ours(batch), theirs(batch.flip(1))])  # (2, 10, 1000)
            torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-3)
            right += (logits.argmax(2) == labels).sum(1)
    top1 = 100 * right / len(classes)
    assert top1[0] > 60 and abs(top1[0] - top1[1]) <= 1, top1


# --- Xception -------------------------------------------------------------------------------------------------------


def test_xception_same_padding_shifts_the_grid_only_where_maps_are_even():
    symmetric = randomise(create_model("xception", width=0.1)).eval()
    same = create_model("xception", width=0.1, padding="tensorflow").eval()
    same.load_state_dict(symmetric.state_dict())
    assert sum(isinstance(m, SameMaxPool2d) for m in same.modules()) == 4
    norms = [m for m in same.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 40 and all(m.eps == 1e-3 for m in norms)
    for m in norms:
        m.eps = 1e-5
    with torch.inference_mode():
        odd, even = torch.randn(1, 3, 39, 39), torch.randn(1, 3, 41, 41)  # maps of 17, 9, 5, 3; 18, 9, 5, 3
        torch.testing.assert_close(same(odd), symmetric(odd))
        assert (same(even) - symmetric(even)).abs().max() > 1e-3


@pytest.mark.parametrize(("name", "smallest"), [("squeezenet1_0", 8), ("squeezenet1_1", 8), ("xception", 4)])
def test_small_input_keeps_32_pixels_apart(name, smallest):
    layers = counted(name, 32, small_input=True).layers
    heights = [layer.output[2] for layer in layers if layer.op == "convolution"]
    assert heights[0] == 32 and min(heights) == smallest


# --- Ghost ----------------------------------------------------------------------------------------------------------


def test_ghost_module_of_ratio_1_is_a_convolution():
    plain = randomise(conv_bn(5, 12, 3, stride=2))
    ghost = GhostModule(5, 12, primary_kernel=3, ratio=1, stride=2)
    ghost.primary.load_state_dict(plain.state_dict())
    assert len(ghost.state_dict()) == len(plain.state_dict())
    x = torch.randn(2, 5, 9, 7)
    torch.testing.assert_close(ghost(x), plain(x))


@pytest.mark.parametrize("ratio", [2, 3, 5])
def test_ghosts_follow_the_primary_channels_and_are_cut(ratio):
    ghost = randomise(GhostModule(5, 16, ratio=ratio, kernel=5)).eval()
    primary = -(-16 // ratio)
    x = torch.randn(2, 5, 9, 7)
    first = ghost.primary(x)
    assert ghost.cheap[0].weight.shape == (primary * (ratio - 1), 1, 5, 5)
    torch.testing.assert_close(ghost(x)[:, :primary], first)
    torch.testing.assert_close(ghost(x)[:, primary:], ghost.cheap(first)[:, : 16 - primary])
    cost = count_model(ghost, (5, 9, 7)).cost
    assert cost.macs == 9 * 7 * primary * (5 + (ratio - 1) * 25)  # as its docstring says


def test_shifted_ghosts_are_copies():
    ghost = GhostModule(5, 32, cheap="shift", act=None)
    x = torch.randn(1, 16, 8, 6)
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)] * 2
    moved = torch.stack([channel.roll((-dy, -dx), (0, 1)) for channel, (dy, dx) in zip(x[0], steps, strict=True)])
    torch.testing.assert_close(ghost.cheap[0](x)[0, :, 1:-1, 1:-1], moved[:, 1:-1, 1:-1])
    with pytest.raises(BadInput, match="nowhere to go with kernel=1"):
        create_model("ghostnet", cheap="shift", kernel=1)


def test_linear_ghosts_are_an_orthonormal_basis():
    ghost = GhostModule(5, 50, cheap="linear", kernel=5)
    basis = ghost.cheap[0].weight.flatten(1)  # 25 filters
    torch.testing.assert_close(basis @ basis.T, torch.eye(25))
    torch.testing.assert_close(basis[0], torch.full((25,), 0.2))  # the first is a mean


@pytest.mark.parametrize("name", ["ghostnet", "ghost_vgg16", "ghost_resnet56"])
@pytest.mark.parametrize("cheap", ["shift", "linear"])
def test_fixed_filters_cost_the_same_and_are_not_learned(name, cheap):
    model, learned = create_model(name, width=0.25, cheap=cheap), create_model(name, width=0.25)
    assert count_model(model, (3, 32, 32)).cost == count_model(learned, (3, 32, 32)).cost
    assert all(p.requires_grad for p in learned.parameters())
    frozen = [module.cheap[0].weight for module in model.modules() if isinstance(module, GhostModule)]
    assert sum(p.numel() for p in model.parameters() if not p.requires_grad) == sum(w.numel() for w in frozen) > 0
    fixed = GhostModule(8, 16, cheap=cheap).cheap[0].weight  # init_weights has not drawn over them
    assert all(torch.equal(weight[:8], fixed[: len(weight)]) for weight in frozen)


def test_ghostnet_int8_safe_has_no_se_and_the_rest_as_before():
    full, safe = create_model("ghostnet"), create_model("ghostnet", int8_safe=True)
    assert not any(isinstance(m, SqueezeExcite | nn.Hardsigmoid) for m in safe.modules())
    assert safe.state_dict().keys() == {name for name in full.state_dict() if ".se." not in name}


@pytest.mark.parametrize(
    ("arguments", "params", "macs"),
    [  # in millions as printed: table 4 for the ratio, table 3 for the kernel
        ({"ratio": 1}, 15.0, 313),
        ({"ratio": 2}, 7.7, 158),
        ({"ratio": 3}, 5.2, 107),
        ({"ratio": 4}, 4.0, 80),
        ({"ratio": 5}, 3.3, 65),
        ({"kernel": 1}, 7.6, 157),
        ({"kernel": 3}, 7.7, 158),
        ({"kernel": 5}, 7.7, 160),
        ({"kernel": 7}, 7.7, 163),
    ],
)
def test_ghost_vgg16_as_printed(arguments, params, macs):
    count = counted("ghost_vgg16", 32, **arguments)
    assert round(count.cost.params / 1e6, 1) == params
    assert round(sum(layer.macs for layer in count.layers if layer.op == "convolution") / 1e6) == macs


def test_ghost_resnet56_as_printed():
    plain, ghost = (counted("ghost_resnet56", 32, ratio=ratio).cost for ratio in (1, 2))
    assert (plain.params, plain.macs) == (853_018, 125_485_696)  # He et al.'s; printed 0.85 M, 125 M
    assert (ghost.params, ghost.macs) == (438_010, 65_139_328)  # printed 0.43 M, 63 M
    layers = counted("ghost_resnet56", 32).layers
    assert round(sum(layer.macs for layer in layers if ".primary." in layer.name) / 1e6) == 63  # without the cheap ones


def test_ghost_resnet56_shortcuts_have_no_parameters():
    block = create_model("ghost_resnet56", ratio=1).stages[1][0]  # 16 -> 32 channels, stride 2
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(2, 16, 9, 8)
    y = block(x)
    torch.testing.assert_close(y[:, :16], x[:, :, ::2, ::2])
    assert not y[:, 16:].any()
