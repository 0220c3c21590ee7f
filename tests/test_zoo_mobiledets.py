"""MobileDets against their printed counts, and against a second forward pass that is written from their notation."""

import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from twins import randomise

from swiftlet import create_model
from swiftlet.cost.count import count_model
from swiftlet.zoo.mobiledets import scale

# The authors' tables. I, F, T: inverted bottleneck, fused, Tucker; channels where they change; e: expansion, or the two
# ranks of T; k5: kernel 5, else 3; /2: stride 2; n: the input is not added.
NOTATION = {
    "mobiledet_cpu": "I8 e1 n; I16 e4 /2 n; I32 e8 /2 n; 3 I e4; I72 e8 k5 /2 n; I e8; I e4 k5; I e4; I e8 n; 3 I e8; "
    "I104 e8 k5 /2 n; 2 I e4 k5; I e4; I144 e8 n",
    "mobiledet_edgetpu": "T16 .25,.75 n; F16 e8 /2 n; F e4; F e8; F e4; F40 e8 k5 /2 n; 3 F e4; I72 e8 /2 n; I e8; "
    "2 F e4; I96 e8 k5 n; I e8 k5; 2 I e8; I120 e8 k5 /2 n; I e8; I e4 k5; I e8; I384 e8 k5 n",
    "mobiledet_dsp": "I24 e1 n; F32 e4 /2 n; F e4; I e4; T .25,.75; F64 e8 /2 n; I e4; 2 F e4; F120 e8 /2 n; I e4; "
    "2 I e8; F144 e8 n; 3 I e8; I160 e4 /2 n; I e4; F e4; T .75,.75; I240 e8 n",
    "mobiledet_gpu": "T16 .25,.25 n; F32 e8 /2 n; 3 T .25,.25; F64 e8 /2 n; 2 F e8; F e4; F128 e8 /2 n; 3 F e4; "
    "F e8 n; 3 F e8; F e4 /2 n; 3 F e4; I384 e8 n",
}
STEM = {"mobiledet_cpu": 16, "mobiledet_edgetpu": 32, "mobiledet_dsp": 32, "mobiledet_gpu": 32}
BLOCK = re.compile(
    r"(?:(?P<n>\d) )?(?P<kind>[IFT])(?P<channels>\d*)(?: e(?P<e>\d))?(?: (?P<ranks>[.\d]+,[.\d]+))?(?P<k5> k5)?"
    r"(?P<strided> /2)?(?P<alone> n)?"
)


def blocks_of(name: str) -> Iterator[re.Match[str]]:
    for text in NOTATION[name].split("; "):
        found = BLOCK.fullmatch(text)
        assert found, text
        yield from [found] * int(found["n"] or 1)


def second_forward(model: nn.Module, name: str, width: float, x: Tensor) -> Tensor:
    """What the notation says, on the tensors of `model` in their order; their shapes are checked on the way."""
    tensors = iter([t for key, t in model.state_dict().items() if not key.endswith("num_batches_tracked")])
    swish = name == "mobiledet_cpu"

    def act(x: Tensor) -> Tensor:
        return x * F.relu6(x + 3) / 6 if swish else F.relu6(x)

    def conv(
        x: Tensor, c_out: int, k: int = 1, stride: int = 1, depthwise: bool = False, linear: bool = False
    ) -> Tensor:
        weight, groups = next(tensors), x.shape[1] if depthwise else 1
        assert weight.shape == (c_out, x.shape[1] // groups, k, k)
        x = F.conv2d(x, weight, stride=stride, padding=k // 2, groups=groups)
        scale, shift, mean, variance = (next(tensors) for _ in range(4))
        x = F.batch_norm(x, mean, variance, scale, shift, eps=0.01)
        return x if linear else act(x)

    def squeeze_excite(x: Tensor) -> Tensor:
        reduce, shift, expand, shift2 = (next(tensors) for _ in range(4))
        assert len(reduce) == scale(x.shape[1] / 4)
        gate = act(F.conv2d(x.mean((2, 3), keepdim=True), reduce, shift))
        return x * torch.sigmoid(F.conv2d(gate, expand, shift2))

    x = conv(x, scale(STEM[name] * width), 3, stride=2)
    channels = 0
    for block in blocks_of(name):
        channels = int(block["channels"] or channels)
        c_in, c_out, k, stride = (
            x.shape[1],
            scale(channels * width),
            5 if block["k5"] else 3,
            2 if block["strided"] else 1,
        )
        if block["kind"] == "I":
            c_mid = c_in * int(block["e"])
            y = conv(x, c_mid) if block["e"] != "1" else x
            y = conv(y, c_mid, k, stride, depthwise=True)
            y = squeeze_excite(y) if swish else y
        elif block["kind"] == "F":
            y = conv(x, c_in * int(block["e"]), k, stride)
        else:
            rank_in, rank_out = map(float, block["ranks"].split(","))
            y = conv(conv(x, scale(c_in * rank_in)), scale(c_out * rank_out), k, stride)
        y = conv(y, c_out, linear=True)
        x = y if block["alone"] else x + y
    return F.linear(x.mean((2, 3)), next(tensors), next(tensors))


@pytest.mark.parametrize("width", [1.0, 0.6])
@pytest.mark.parametrize("name", NOTATION)
def test_every_layer_is_as_in_the_notation(name, width):
    model = randomise(create_model(name, width=width, num_classes=5)).eval()
    x = torch.randn(2, 3, 97, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, other = model(x), second_forward(model, name, width, x)
        assert (other[0] - other[1]).abs().max() > 1e-3 * other.abs().max()  # the signal lives to the end
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


def ssdlite_head(c4: int, c5: int) -> tuple[int, int, int]:
    """Parameters, multiply-adds and BatchNorm channels of SSDLite for 91 classes at side 320.

    Maps C4 (20 x 20) and C5 (10 x 10), then 512, 256, 256, 128 channels: each 1x1 to half of them, depthwise 3x3 of
    stride 2, 1x1. On each map two heads, of 4 and of 91 results for each of 3 (first map) or 6 anchors: depthwise 3x3,
    1x1 with a bias and without BatchNorm.
    """
    params = macs = norms = 0

    def conv(weights: int, c_out: int, side: int) -> None:
        nonlocal params, macs, norms
        params, macs, norms = params + weights + 2 * c_out, macs + weights * side**2, norms + c_out

    maps = [(c4, 20), (c5, 10)]
    for channels, side in ((512, 5), (256, 3), (256, 2), (128, 1)):
        c, before = maps[-1]
        conv(c * channels // 2, channels // 2, before)
        conv(9 * channels // 2, channels // 2, side)
        conv(channels // 2 * channels, channels, side)
        maps.append((channels, side))
    for (c, side), anchors in zip(maps, (3, 6, 6, 6, 6, 6), strict=True):
        for results in (4 * anchors, 91 * anchors):
            conv(9 * c, c, side)
            params, macs = params + (c + 1) * results, macs + c * results * side**2
    return params, macs, norms


@pytest.mark.parametrize(
    ("name", "c4", "c5", "billion", "million", "printed"),
    [  # multiply-adds and parameters with the detector; printed: four values per BatchNorm channel, not two
        ("mobiledet_cpu", 72, 144, 0.444, 4.165, 4.21),
        ("mobiledet_edgetpu", 96, 384, 1.533, 4.147, 4.20),
        ("mobiledet_dsp", 144, 240, 2.816, 7.102, 7.16),
        ("mobiledet_gpu", 128, 384, 5.073, 13.069, 13.11),
    ],
)
def test_printed_counts_with_ssdlite(name, c4, c5, billion, million, printed):
    with torch.device("meta"):
        model = create_model(name)
    counted = count_model(model, (3, 320, 320))
    ends = [next(layer for layer in reversed(counted.layers) if layer.name.startswith(f"stages.{i}.")) for i in (4, 6)]
    assert [layer.output[1:] for layer in ends] == [(c4, 20, 20), (c5, 10, 10)]
    params, macs, norms = ssdlite_head(c4, c5)
    params += counted.cost.params - 1000 * (c5 + 1)  # the classifier's
    macs += counted.cost.macs - 1000 * c5
    assert (round(macs / 1e9, 3), round(params / 1e6, 3)) == (billion, million)
    norms += sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert (params + 2 * norms) / 1e6 == pytest.approx(printed, abs=0.006)


def test_cpu_int8_safe_is_of_relu6_and_has_no_se():
    full, safe = (create_model("mobiledet_cpu", width=0.25, int8_safe=safe) for safe in (False, True))
    assert {type(m) for m in full.modules()} >= {nn.Hardswish, nn.Sigmoid}
    assert not any(isinstance(m, nn.Hardswish | nn.Sigmoid) for m in safe.modules())
    assert safe.state_dict().keys() == {name for name in full.state_dict() if ".se." not in name}
    assert sum(isinstance(m, nn.ReLU6) for m in safe.modules()) == 38  # stem and first block 1 each, 18 others 2
