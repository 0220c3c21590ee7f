"""Counts against published figures, against PyTorch's own counter, against brute force and against hand arithmetic."""

import io
import itertools
import json
import warnings

import pytest
import torch
import torchvision_ops  # noqa: F401  (lets torchvision import)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import module as nn_module
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from swiftlet.cost.count import count, count_model, count_onnx
from swiftlet.cost.formulas import conv_macs
from swiftlet.cost.tally import RULE
from swiftlet.errors import BadInput


def build(name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "legacy_xception":
            import timm

            return timm.create_model(name)
        import torchvision

        return torchvision.models.get_model(name)


def export(model: nn.Module, side: int) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), (torch.zeros(1, 3, side, side),), file, dynamo=False, input_names=["image"],
            dynamic_axes={"image": {0: "N"}},
        )  # fmt: skip
    return file.getvalue()


def flops_by_torch(model: nn.Module, *shape: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.to("meta").eval()(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


# torchvision's and timm's own tables, where they print digits
PUBLISHED = [
    ("mobilenet_v2", 224, 3_504_872, 300_774_272),
    ("resnet18", 224, 11_689_512, 1_814_073_344),
    ("resnet50", 224, 25_557_032, 4_089_184_256),
    ("mobilenet_v3_large", 224, 5_483_032, 216_589_760),
    ("shufflenet_v2_x1_0", 224, 2_278_604, 144_907_992),
    ("squeezenet1_0", 224, 1_248_424, 818_924_576),
    ("vit_b_16", 224, 86_567_656, 17_563_828_224),
    ("legacy_xception", 299, 22_855_952, 8_357_403_496),
]


@pytest.mark.parametrize(("name", "side", "params", "macs"), PUBLISHED, ids=lambda value: str(value))
def test_published_networks(name, side, params, macs):
    with torch.device("meta"):
        model = build(name)
    found = count_model(model, (3, side, side))
    assert (found.cost.params, found.cost.macs, found.cost.flops) == (params, macs, 2 * macs)
    assert found.cost.size_bytes == 4 * params
    assert found.uncovered == ()
    assert found.cost.flops == flops_by_torch(model, 1, 3, side, side)
    assert sum(layer.params for layer in found.layers) == params


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_0", "shufflenet_v2_x1_0"])
def test_exported_file_counts_like_the_module(name):
    model = build(name)
    module, file = count_model(model, (3, 64, 64)), count_onnx(export(model, 64))
    assert file.cost.macs == module.cost.macs
    assert file.uncovered == ()
    assert file.cost.peak_activation_bytes == module.cost.peak_activation_bytes
    for figure in ("depth", "branches", "field", "int8_bytes", "coverage"):
        assert getattr(file, figure) == getattr(module, figure), figure
    assert file.rule == module.rule == RULE


def test_model_is_bit_identical_afterwards():
    model = build("mobilenet_v2").train()
    model.features[3].eval()
    state = {
        name: (tensor, tensor.data_ptr(), tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()
    }
    modes = [module.training for module in model.modules()]
    hooks = len(nn_module._global_forward_hooks), len(nn_module._global_forward_pre_hooks)
    count(model)
    for name, tensor in model.state_dict(keep_vars=True).items():
        before, address, values = state[name]
        assert tensor is before and tensor.data_ptr() == address and torch.equal(tensor, values), name
    assert [module.training for module in model.modules()] == modes
    assert hooks == (len(nn_module._global_forward_hooks), len(nn_module._global_forward_pre_hooks))


def test_failing_forward_is_bad_input_and_leaves_no_hooks():
    model = nn.Sequential(nn.Conv2d(4, 8, 3)).train()
    with pytest.raises(BadInput, match=r"Sequential cannot be counted .*\(1, 3, 8, 8\)"):
        count(model, (3, 8, 8))
    assert model[0].training and not nn_module._global_forward_hooks and not nn_module._global_forward_pre_hooks
    assert model[0].weight.device.type == "cpu"
    with pytest.raises(BadInput, match="without the batch"):
        count(model, (3, 0, 8))


class Functional(nn.Module):
    """Everything through functions, one parameter used twice, one never, and one operation without a rule."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 3, 3))
        self.unused = nn.Parameter(torch.randn(7))

    def forward(self, x):
        x = F.relu(F.conv2d(x, self.weight, padding=1)) + F.conv2d(x, self.weight, padding=1)
        x = F.grid_sample(x, x.new_zeros(1, 4, 4, 2), align_corners=False)
        return x.flatten(2) @ x.flatten(2).transpose(1, 2)


def test_functional_calls_shared_and_unused_weights_and_uncovered_operations():
    found = count_model(Functional(), (3, 8, 8))
    assert found.cost.params == 81 + 7
    assert found.cost.macs == 2 * 64 * 3 * 27 + 3 * 3 * 16
    assert found.elementwise == 64 * 3 * 2  # relu and the addition
    assert found.uncovered == ("aten.grid_sampler_2d x1",)
    assert found.coverage == 1 - 1 / len(found.layers) and found.gradient_bytes == 4 * found.cost.params
    assert next(layer for layer in found.layers if "grid" in layer.op).field.whole  # who knows where it looks
    assert [layer.params for layer in found.layers if layer.op == "convolution"] == [81, 0]


def test_tied_layers_count_their_weights_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    found = count_model(model, (4,))
    assert found.cost.params == 20 and found.cost.macs == 32
    assert [(layer.name, layer.params) for layer in found.layers] == [("0", 20), ("1", 0), ("2", 0)]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 3, stride=2, groups=2), (4, 20)),
        (nn.Conv2d(4, 8, 3, dilation=2, padding=1, groups=4), (4, 9, 11)),
        (nn.Conv3d(2, 4, (1, 2, 3)), (2, 5, 6, 7)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (4, 5, 6)),
        (nn.Linear(7, 5), (3, 7)),
        (nn.MultiheadAttention(8, 2, batch_first=True), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_layer_agrees_with_torch(layer, shape):
    class Wrap(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x, x, x)[0] if isinstance(layer, nn.MultiheadAttention) else self.layer(x)

    shape = shape or (5, 8)
    found = count_model(Wrap(), shape)
    assert found.uncovered == ()
    assert found.cost.flops == flops_by_torch(Wrap(), 1, *shape) > 0


@given(
    outputs=st.integers(1, 3), inputs=st.integers(1, 3), groups=st.integers(1, 3), kernel=st.integers(1, 3),
    stride=st.integers(1, 3), dilation=st.integers(1, 2), padding=st.integers(0, 2), side=st.integers(5, 8),
)  # fmt: skip
def test_conv_macs_equal_an_enumeration_of_products(outputs, inputs, groups, kernel, stride, dilation, padding, side):
    layer = nn.Conv2d(inputs * groups, outputs * groups, kernel, stride, padding, dilation, groups, device="meta")
    starts = range(-padding, side + padding - dilation * (kernel - 1), stride)
    products = 0
    for channel, _y, _x in itertools.product(range(outputs * groups), starts, starts):
        group = channel // outputs
        products += len(range(group * inputs, (group + 1) * inputs)) * kernel * kernel
    found = layer(torch.empty(1, inputs * groups, side, side, device="meta"))
    assert conv_macs(found.shape, layer.weight.shape) == products


def test_peak_and_memory_access_by_hand():
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(8, 2, 1, bias=False))
    found = count_model(plain, (3, 10, 10))
    assert found.cost.peak_activation_bytes == 4 * 100 * (3 + 8)  # the ReLU works in place, 8 + 2 is less
    assert found.cost.memory_access_bytes == 4 * (300 + 216 + 800 + 1600 + 800 + 16 + 200)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            y = self.conv(x)
            return (x + self.conv(y)).flatten(1)

    # x is kept while conv reads y and writes a third buffer; the sum overwrites one of them
    assert count(Residual(), (4, 5, 5)).peak_activation_bytes == 4 * 100 * 3


def test_bytes_moved_intensity_and_bytes_on_disk_by_hand():
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
    found = count_model(plain, (3, 10, 10))
    first = found.layers[0]
    assert (first.read_bytes, first.written_bytes) == (4 * (300 + 216), 4 * 800)
    assert first.intensity == 2 * 100 * 216 / (4 * (300 + 216 + 800))
    assert found.intensity == (found.cost.flops + found.elementwise) / found.cost.memory_access_bytes
    assert found.written_bytes == 4 * (800 + 800 + 200)
    weights, biases = 216 + 16, 8 + 2  # BatchNorm becomes a bias; each channel has a scale, too
    assert found.int8_bytes == weights + 8 * biases
    params = weights + 2 * 8 + 2
    assert (found.float32_bytes, found.float16_bytes) == (4 * params, 2 * params)
    plain[0].weight.requires_grad_(False)
    assert count_model(plain, (3, 10, 10)).gradient_bytes == 4 * (params - 216)
    bare = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))  # nothing before it to fold it into
    assert count_model(bare, (3, 4, 4)).int8_bytes == 4 * 6 + 6 + 8 * 2


def test_json_holds_everything_and_adds_up():
    found = count_model(Functional(), (3, 8, 8))
    read = json.loads(json.dumps(found.to_json()))
    assert read["layers"][0]["field"] == {"size": [3, 3], "stride": [1, 1], "whole": False}
    for figure in ("macs", "flops", "elementwise", "memory_access_bytes", "written_bytes"):
        assert read[figure] == sum(layer[figure] for layer in read["layers"]), figure
    assert all(n["read_bytes"] + n["written_bytes"] == n["memory_access_bytes"] for n in read["layers"])
    assert read["uncovered"] == ["aten.grid_sampler_2d x1"] and read["int8_bytes"] == 81 + 8 * 3 + 4 * 7


class OnTheCpu(nn.Module):
    """Makes its own constants, one of which decides a shape."""

    def forward(self, x):
        mask = torch.arange(8) % 2 == 0
        grid = torch.linspace(0, 1, 8).repeat(8, 1)
        return (x + grid)[:, :, mask] * torch.tensor(2.0)


def test_constants_made_in_the_forward_pass():
    assert count_model(OnTheCpu(), (3, 8, 8)).layers[-1].output == (1, 3, 4, 8)


class Depends(nn.Module):
    def __init__(self, look):
        super().__init__()
        self.inner = nn.Identity()
        self.look = look

    def forward(self, x):
        return self.look(self.inner(x))


@pytest.mark.parametrize(
    "look",
    [lambda x: x if x.sum() > 0 else -x, lambda x: x[x > 0], lambda x: x[: int(x.max())], lambda x: x.numpy()],
    ids=["branch", "mask", "slice", "numpy"],
)
def test_a_forward_that_depends_on_values(look):
    with pytest.raises(BadInput, match=r"Depends cannot be counted .* needs the values of a tensor.*export it"):
        count(Depends(look), (3, 8, 8))


def test_an_input_too_small_names_the_layer_and_both_sizes():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Sequential(nn.Conv2d(4, 4, 5)))
    with pytest.raises(BadInput, match=r"\(1\.0\) for an input of shape \(1, 3, 8, 8\).*3 x 3.*5 x 5"):
        count(model, (3, 8, 8))
    with pytest.raises(BadInput, match="Output size is too small"):
        count(nn.MaxPool2d(4), (3, 3, 3))
    with pytest.raises(BadInput, match="LazyConv2d cannot be counted"):
        count(nn.LazyConv2d(4, 3), (3, 8, 8))
    with pytest.raises(BadInput, match="count_onnx"):
        count("net.onnx")


def test_counting_is_fast_enough_for_planning():
    with torch.device("meta"):
        model = build("mobilenet_v2")
    count(model)
    timer = Timer("count(model)", globals={"count": count, "model": model})
    assert timer.timeit(3).mean < 0.3  # 25 ms on an idle core
