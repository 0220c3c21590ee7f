"""int8 after training: ranges, equalization, biases, rounding, what to leave in float, and CPUs that add in 16 bits."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from settle import settled
from torch import Tensor, fx, nn
from torch.nn import functional as F

from benchmarks.int8_collapse import table
from benchmarks.saturation import table as saturation_table
from swiftlet.compress.bias_correct import correct_biases
from swiftlet.compress.calibrate import METHODS, find_grid
from swiftlet.compress.equalize import equalize
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.compress.overflow import Emulation, find_overflows
from swiftlet.compress.post_training import quantize_best
from swiftlet.compress.quantize import FakeQuantize, quantize
from swiftlet.compress.round import adaround
from swiftlet.compress.scales import in_order_of_sums, short_scale, weight_ranges
from swiftlet.compress.sensitivity import mixed_precision, score_difference, sensitivity
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput, NothingToDo
from swiftlet.export.onnx import export_onnx
from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.runtime import get_runtime
from swiftlet.runtime.cpu import adds_in_16_bits

CONTRACT = InputContract(side=16)
PIXELS = np.random.default_rng(0).integers(0, 256, (48, 16, 16, 3), np.uint8)
IMAGES = torch.from_numpy(CONTRACT.normalise(PIXELS))
SCALE, ZERO = CONTRACT.grid
GRID = {"input_scale": SCALE, "input_zero_point": ZERO}


def network(act: type[nn.Module] = nn.ReLU) -> fx.GraphModule:
    """Two inverted residuals, the second with squeeze-and-excitation, folded; a classifier whose pictures differ."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        act(),
        InvertedResidual(8, 24, 8, act=act),
        InvertedResidual(8, 20, 12, stride=2, act=act, se=SqueezeExcite(20, 8)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 6),
    )
    return fold_batchnorm(settled(model, PIXELS, CONTRACT))[0]


def spread_out(model: fx.GraphModule, factor: float = 100.0) -> fx.GraphModule:
    """The same function, with one channel of the first depthwise layer `factor` times as wide as it was."""
    new = copy.deepcopy(model)
    depthwise, project = new.get_submodule("3.depthwise.0"), new.get_submodule("3.project.0")
    with torch.no_grad():
        depthwise.weight[5] *= factor
        depthwise.bias[5] *= factor
        project.weight[:, 5] /= factor
    return new


def scores(model: nn.Module, images: Tensor = IMAGES) -> Tensor:
    with torch.inference_mode():
        return model(images)


def error(model: nn.Module, integer: nn.Module) -> float:
    return (scores(integer) - scores(model)).square().mean().sqrt().item()


def steps_of(layer: nn.Module) -> Tensor:
    return (layer.weight / layer.weight_scale.view(-1, *[1] * (layer.weight.ndim - 1))).round().detach()


# --- ranges ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=50)
@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=60),
    factor=st.sampled_from((0.0, 1e-6, 1.0, 1e3)),
    shift=st.sampled_from((-1e4, 0.0, 1e4)),
)
def test_every_calibration_gives_a_grid_that_holds_zero(method, values, factor, shift):
    scale, zero = find_grid(torch.tensor(values) * factor + shift, method)
    assert scale > 0 and type(zero) is int and 0 <= zero <= 255
    assert FakeQuantize(scale, zero)(torch.zeros(1)) == 0


def test_calibrations_differ_as_they_should():
    torch.manual_seed(0)
    normal = torch.randn(20_000)
    outlier = torch.cat((normal, torch.tensor([60.0])))
    top = {method: (255 - zero) * scale for method in METHODS for scale, zero in [find_grid(outlier, method)]}
    assert top["minmax"] == pytest.approx(60, rel=0.01)
    assert 2.5 < top["percentile"] < 4
    assert top["mse"] > 50  # to lose 60 would cost more than finer steps for the rest bring

    tails = torch.randn(20_000) ** 3
    widths = {method: 255 * find_grid(tails, method)[0] for method in METHODS}
    assert max(widths["percentile"], widths["entropy"]) < 0.6 * widths["minmax"]  # and mse would rather keep them
    off = {m: (FakeQuantize(*find_grid(tails, m))(tails) - tails).square().mean().item() for m in METHODS}
    assert off["mse"] == min(off.values()) < 0.99 * off["minmax"]
    gate = torch.linspace(0.9, 1.0, 1000)  # all of it beyond the narrowest ranges that are tried
    assert all(255 * find_grid(gate, method)[0] > 0.95 for method in METHODS)
    for method in ("mse", "entropy"):  # nothing is gained by clipping what is evenly spread
        scale, _ = find_grid(torch.linspace(0, 7, 20_000), method)
        assert 255 * scale == pytest.approx(7, rel=0.03)
    with pytest.raises(BadInput, match=r"calibration='best' is unknown; there are minmax, percentile, mse, entropy"):
        quantize(network(), [IMAGES], calibration="best")


# --- options of quantize --------------------------------------------------------------------------------------------


def test_one_scale_per_layer_loses_what_one_per_channel_keeps_and_the_record_says_where():
    even, uneven = network(), spread_out(network())
    torch.testing.assert_close(scores(uneven), scores(even), rtol=1e-4, atol=1e-4)
    by_channel, record = quantize(uneven, [IMAGES], **GRID)
    by_tensor, _ = quantize(uneven, [IMAGES], **GRID, per_channel=False)
    ranges = uneven.get_submodule("3.depthwise.0").weight.abs().flatten(1).amax(1)
    assert record.arguments["range_spread"] == {"3.depthwise.0": round((ranges.max() / ranges.min()).item(), 1)}
    assert "range_spread" not in quantize(even, [IMAGES], **GRID)[1].arguments
    layer = by_tensor.get_submodule("3.depthwise.0")
    assert layer.weight_scale.shape == (24,) and (layer.weight_scale == short_scale(ranges.max() / 127)).all()
    assert len(by_channel.get_submodule("3.depthwise.0").weight_scale.unique()) > 20
    assert error(uneven, by_tensor) > 1.5 * error(uneven, by_channel)


def test_weights_of_seven_bits():
    new, record = quantize(network(), [IMAGES], **GRID, weight_bits=7)
    assert record.arguments["weight_bits"] == 7
    for path in record.changed:
        assert steps_of(new.get_submodule(path)).abs().max() == 63
    with pytest.raises(BadInput, match="weight_bits=9"):
        quantize(network(), [IMAGES], weight_bits=9)


def test_layers_that_are_skipped_stay_as_they_are_and_so_does_what_lies_between_them():
    model = network()
    layers = [path for path, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    part = ["3.expand.0", "3.depthwise.0", "3.project.0"]
    new, record = quantize(model, [IMAGES], **GRID, skip=part)
    assert dict(record.skipped) == dict.fromkeys(part, "it is left in float, as asked for")
    assert [*record.changed] == [path for path in layers if path not in part]
    for path in part:
        assert torch.equal(new.get_submodule(path).weight, model.get_submodule(path).weight)
        assert not hasattr(new.get_submodule(path), "weight_scale")
    whole, _ = quantize(model, [IMAGES], **GRID)
    grids = [sum(isinstance(m, FakeQuantize) for m in net.modules()) for net in (whole, new)]
    assert grids[0] - grids[1] == 3  # behind the expansion, the depthwise layer and the projection; their sum is read
    program = get_runtime("onnxruntime").load(export_onnx(new, CONTRACT), 1)
    np.testing.assert_allclose(program.run(PIXELS)[0], scores(new).softmax(1), atol=0.02)

    for rest in layers:  # one layer alone is int8, and the float rest is computed in float
        alone, record = quantize(model, [IMAGES], **GRID, skip=[path for path in layers if path != rest])
        assert record.changed == (rest,)
        assert error(model, alone) < error(model, whole) * 1.5
    with pytest.raises(NothingToDo, match="left in float, as asked for"):
        quantize(model, [IMAGES], skip=layers)
    with pytest.raises(BadInput, match=r"skip names '3\.expand', 'no', which is no Conv2d or Linear here"):
        quantize(model, [IMAGES], skip=["3.expand", "no"])


# --- equalization ---------------------------------------------------------------------------------------------------


def ranges(weight: Tensor, dim: int) -> Tensor:
    return weight.detach().abs().transpose(0, dim).flatten(1).amax(1)


def test_equalization_changes_nothing_but_the_ranges_and_cures_one_scale_per_layer():
    model = spread_out(network())
    new, record = equalize(model)
    torch.testing.assert_close(scores(new), scores(model), rtol=1e-4, atol=1e-4)
    assert set(record.changed) == {
        "3.expand.0", "3.depthwise.0", "3.project.0",
        "4.expand.0", "4.depthwise.0", "4.se.reduce", "4.se.expand", "4.project.0", "7",
    }  # fmt: skip
    assert dict(record.skipped) == {"0": "add stands behind it"}
    for block in ("3", "4"):
        expand, depthwise = (
            new.get_submodule(f"{block}.expand.0").weight,
            new.get_submodule(f"{block}.depthwise.0").weight,
        )
        torch.testing.assert_close(ranges(expand, 0), ranges(depthwise, 0), rtol=0.03, atol=0)
    project, excite = new.get_submodule("4.project.0").weight, new.get_submodule("4.se.reduce").weight
    torch.testing.assert_close(
        ranges(new.get_submodule("4.depthwise.0").weight, 0),
        torch.maximum(ranges(project, 1), ranges(excite, 1)),  # the gate reads it too
        rtol=0.03,
        atol=0,
    )
    torch.testing.assert_close(ranges(project, 0), ranges(new.get_submodule("7").weight, 1), rtol=0.03, atol=0)

    before, _ = quantize(model, [IMAGES], **GRID, per_channel=False)
    after, _ = quantize(new, [IMAGES], **GRID, per_channel=False)
    assert error(model, after) < 0.7 * error(model, before)


@settings(deadline=None, max_examples=20)
@given(
    groups=st.sampled_from((1, 2, 4)),
    multiplier=st.sampled_from((1, 2)),
    pixels=st.sampled_from((1, 2)),
    bias=st.booleans(),
    channels_last=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equalization_is_exact_for_every_kind_of_layer(groups, multiplier, pixels, bias, channels_last, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=bias), nn.LeakyReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 4 * groups * multiplier, 3, groups=groups, bias=bias), nn.ReLU(),
        nn.AdaptiveAvgPool2d(pixels), nn.Flatten(), nn.Dropout(),
        nn.Linear(4 * groups * multiplier * pixels**2, 5, bias=bias),
    ).eval()  # fmt: skip
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    with torch.no_grad():
        model[0].weight[2] = 0.0  # a filter that died
        model[3].weight.mul_(torch.logspace(-2, 2, len(model[3].weight)).view(-1, 1, 1, 1))
    new, record = equalize(model)
    assert record.changed == ("0", "3", "8")
    torch.testing.assert_close(scores(new), scores(model), rtol=1e-4, atol=1e-4)
    assert not torch.equal(new.get_submodule("3").weight, model[3].weight)


def test_relu6_ends_a_chain_or_is_replaced_and_says_so():
    model = network(nn.ReLU6)
    kept, record = equalize(model)
    assert set(record.changed) == {"4.se.reduce", "4.se.expand", "4.project.0", "7"}
    assert dict(record.skipped)["3.expand.0"] == "ReLU6 stands behind it"
    torch.testing.assert_close(scores(kept), scores(model), rtol=1e-4, atol=1e-4)
    new, record = equalize(model, relu6="relu")
    assert record.arguments["replaced"] == ["2", "3.expand.2", "3.depthwise.2", "4.expand.2", "4.depthwise.2"]
    plain = network(nn.ReLU)
    for path, module in plain.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.load_state_dict(model.get_submodule(path).state_dict())
    torch.testing.assert_close(scores(new), scores(plain), rtol=1e-4, atol=1e-4)
    with pytest.raises(BadInput, match="relu6='clip'"):
        equalize(model, relu6="clip")


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (nn.Hardswish(), "Hardswish stands behind it"),
        (nn.Softmax(1), "Softmax stands behind it"),
        (nn.Sequential(nn.BatchNorm2d(4)), "BatchNorm2d stands behind it"),
    ],
)
def test_what_is_not_homogeneous_is_left_alone(between, reason):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), between, nn.Conv2d(4, 4, 1)).eval()
    with pytest.raises(NothingToDo, match=f"{reason}.*its result leaves the network"):
        equalize(model)


class Swish(nn.Module):
    """x * sigmoid(x) looks like a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.sigmoid, self.second = nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x * self.sigmoid(x))


def test_a_gate_that_depends_on_the_scale_is_no_gate():
    with pytest.raises(NothingToDo, match="Sigmoid stands behind it"):
        equalize(Swish().eval())


# --- biases and rounding --------------------------------------------------------------------------------------------


def test_corrected_biases_restore_the_means():
    model = network()
    coarse, _ = quantize(model, [IMAGES], **GRID, weight_bits=4)
    new, record = correct_biases(model, coarse, IMAGES.split(16))
    means = [scores(net).mean(0) for net in (model, coarse, new)]
    scale = new.get_submodule("7").bias_scale
    assert ((means[2] - means[0]).abs() <= scale).all() and (means[1] - means[0]).abs().max() > 5 * scale.max()
    for path in record.changed:
        layer, before = new.get_submodule(path), coarse.get_submodule(path)
        assert torch.equal(layer.weight, before.weight) and not torch.equal(layer.bias, before.bias)
        steps = layer.bias.double() / layer.bias_scale.double()
        assert (steps - steps.round()).abs().max() < 1e-3
    with pytest.raises(NothingToDo, match="right to within half a step"):
        correct_biases(model, new, IMAGES.split(16))
    with pytest.raises(BadInput, match="correct_biases: no calibration images"):
        correct_biases(model, coarse, [])
    with pytest.raises(BadInput, match="'0' is no layer of both networks"):
        correct_biases(fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 1)).eval()), coarse, [IMAGES])


def test_a_layer_without_a_bias_gets_one():
    torch.manual_seed(0)
    model = fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval())
    coarse, _ = quantize(model, [IMAGES], **GRID, weight_bits=3)
    new, record = correct_biases(model, coarse, [IMAGES])
    assert "0" in record.changed and new.get_submodule("0").bias.abs().max() > 0
    assert coarse.get_submodule("0").bias is None
    torch.testing.assert_close(scores(new).mean((0, 2, 3)), scores(model).mean((0, 2, 3)), atol=1e-3, rtol=0)


def test_learnt_rounding_goes_to_a_neighbour_and_leaves_less_error():
    model = network()
    fitted, held_out = IMAGES[:32].split(16), IMAGES[32:]
    coarse, _ = quantize(model, fitted, **GRID, weight_bits=4)
    new, record = adaround(model, coarse, fitted, steps=60)
    moved = 0
    for path in record.changed:
        layer, before = new.get_submodule(path), coarse.get_submodule(path)
        exact = model.get_submodule(path).weight / layer.weight_scale.view(-1, *[1] * (layer.weight.ndim - 1))
        assert ((steps_of(layer) - exact).abs() < 1 + 1e-4).all() and steps_of(layer).abs().max() <= 7
        moved += int((steps_of(layer) != steps_of(before)).sum())
        assert torch.equal(layer.bias, before.bias) and torch.equal(layer.weight_scale, before.weight_scale)
    assert moved > 50
    off = [(scores(net, held_out) - scores(model, held_out)).square().mean() for net in (coarse, new)]
    assert off[1] < 0.7 * off[0]
    again, same = adaround(model, coarse, fitted, steps=60)
    assert same == record and torch.equal(scores(again), scores(new))


# --- mixed precision ------------------------------------------------------------------------------------------------


def test_the_layer_that_suffers_most_is_found_and_left_in_float():
    model = network()
    with torch.no_grad():  # a wide weight on a dead channel ruins one layer's scale, and nothing else
        model.get_submodule("0").weight[3], model.get_submodule("0").bias[3] = 0.0, -1.0
        model.get_submodule("3.expand.0").weight[0, 3] = 200.0
    assert score_difference(model, model, [IMAGES]) == 0
    found = sensitivity(model, [IMAGES], **GRID, per_channel=False)
    assert next(iter(found)) == "3.expand.0" and list(found.values()) == sorted(found.values(), reverse=True)
    worst, second = list(found.values())[:2]
    assert worst > 2 * second

    asked = []

    def accept(candidate: fx.GraphModule) -> bool:
        asked.append(score_difference(model, candidate, [IMAGES]))
        return asked[-1] < worst / 2

    new, record = mixed_precision(model, [IMAGES], accept, **GRID, per_channel=False)
    assert record.skipped == (("3.expand.0", "it is left in float, as asked for"),)
    assert asked[0] > worst / 2 > asked[-1] == score_difference(model, new, [IMAGES]) and len(asked) == 2


@pytest.mark.parametrize("needed", range(1, 10))
def test_as_few_layers_are_left_in_float_as_are_accepted(needed):
    model, asked = network(), []

    def accept(candidate: fx.GraphModule) -> bool:
        asked.append(sum(1 for m in candidate.modules() if hasattr(m, "weight_scale")))
        return 10 - asked[-1] >= needed

    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == 10
    _, record = mixed_precision(model, [IMAGES[:8]], accept, **GRID)
    assert len(record.changed) == 10 - needed and len(asked) <= 8
    assert set(record.arguments["skip"]) == dict(record.skipped).keys()


def test_if_nothing_is_accepted_there_is_nothing_to_do():
    with pytest.raises(NothingToDo, match="none of the 10 layers"):
        mixed_precision(network(), [IMAGES[:8]], lambda candidate: False, **GRID)


# --- 16-bit sums ----------------------------------------------------------------------------------------------------


def by_hand(steps: np.ndarray, weight: np.ndarray, zero: int) -> np.ndarray:
    """(pixels, taps), (c_out, taps), raw bytes: sums of pairs that saturate, less what the zero point adds to them."""
    products = steps[:, None].astype(np.int64) * weight[None]
    if products.shape[2] % 2:
        products = np.pad(products, ((0, 0), (0, 0), (0, 1)))
    pairs = products.reshape(*products.shape[:2], -1, 2).sum(-1)
    return pairs.clip(-32768, 32767).sum(-1) - zero * weight.sum(1)


@pytest.mark.parametrize(
    "conv",
    [
        {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "stride": 2, "padding": 1},
        {"in_channels": 3, "out_channels": 4, "kernel_size": (1, 3), "padding": (0, 2), "bias": False},
        {"in_channels": 3, "out_channels": 5, "kernel_size": 1},
    ],
    ids=str,
)
def test_the_emulation_saturates_as_vpmaddubsw_does(conv):
    torch.manual_seed(0)
    layer = nn.Conv2d(**conv)
    nn.init.uniform_(layer.weight, 0.9, 1.0)
    model = fx.symbolic_trace(nn.Sequential(layer, nn.Flatten()).eval())
    integer, _ = quantize(model, [IMAGES], **GRID, safe_pairs=False)
    bright = torch.from_numpy(CONTRACT.normalise(np.maximum(PIXELS[:2], 140)))
    emulation = Emulation(integer, input_zero_point=ZERO)
    with torch.inference_mode():
        got = emulation.run(bright).view(2, layer.out_channels, -1)
    quantized = integer.get_submodule("0")
    kernel, stride = quantized.kernel_size, quantized.stride
    raw = F.pad(bright / SCALE + ZERO, [p for p in reversed(layer.padding) for _ in (0, 1)], value=ZERO)
    windows = raw.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])  # (2, C, H, W, kh, kw)
    taps = windows.permute(0, 2, 3, 4, 5, 1).round().flatten(3).flatten(1, 2).numpy().astype(np.int64)
    weight = steps_of(quantized).permute(0, 2, 3, 1).flatten(1).numpy().astype(np.int64)
    for picture in range(2):
        sums = by_hand(taps[picture], weight, ZERO).T * quantized.bias_scale[:, None].numpy()
        if layer.bias is not None:
            sums = sums + quantized.bias.detach()[:, None].numpy()
        np.testing.assert_allclose(got[picture], sums, rtol=1e-4, atol=1e-3)
    overflow = emulation.overflows()["0"]
    assert overflow.share > 0.1 and overflow.worst > 0
    assert (scores(integer, bright).view_as(got) - got).max() == pytest.approx(overflow.worst, rel=1e-3)


def test_linear_and_grouped_layers_overflow_too_and_depthwise_ones_do_not():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1, groups=6), nn.ReLU(),
        nn.Conv2d(6, 6, 1, groups=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2),
    ).eval()  # fmt: skip
    for layer in (model[0], model[2], model[4], model[8]):
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.zeros_(model[0].weight[:, 1:])  # one product alone fits
    images = IMAGES * 0.01 + 0.98  # nearly white
    integer, _ = quantize(fx.symbolic_trace(model), [images], **GRID, safe_pairs=False)
    found = find_overflows(integer, [images], input_zero_point=ZERO)
    assert {path: overflow.share for path, overflow in found.items()} == {"4": 1.0, "8": 1.0}
    dark, _ = quantize(fx.symbolic_trace(model), [images], input_scale=SCALE, input_zero_point=0, safe_pairs=False)
    with pytest.raises(BadInput, match="give input_zero_point"):
        find_overflows(dark, [images])
    with pytest.raises(BadInput, match="no images were given"):
        find_overflows(integer, [], input_zero_point=ZERO)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 999))
def test_safe_pairs_and_weights_of_seven_bits_never_overflow(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.Flatten()).eval()
    for layer in (model[0], model[2]):
        layer.weight.data.sign_()
    images = IMAGES.sign()
    for how, safe in (({"safe_pairs": False}, False), ({}, True), ({"safe_pairs": False, "weight_bits": 7}, True)):
        integer, _ = quantize(fx.symbolic_trace(model), [images], **GRID, **how)
        assert (find_overflows(integer, [images], input_zero_point=ZERO) == {}) is safe
        emulation = Emulation(integer, input_zero_point=ZERO)
        assert torch.equal(emulation.run(images), integer(images)) is safe


def test_files_compute_on_this_cpu_what_their_networks_compute():
    """ONNX Runtime here: without VNNI it does what the emulation says, with it sums are exact."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.AvgPool2d(14), nn.Flatten()).eval()
    nn.init.uniform_(model[0].weight, 0.5, 1.0)
    nn.init.uniform_(model[2].weight, 0.0, 0.2)
    pixels = np.maximum(PIXELS, 140)
    images = torch.from_numpy(CONTRACT.normalise(pixels))

    def ran(integer):
        return get_runtime("onnxruntime").load(export_onnx(integer, CONTRACT), 1).run(pixels)[0]

    safe, _ = quantize(fx.symbolic_trace(model), [images], **GRID)
    np.testing.assert_allclose(ran(safe), scores(safe, images).softmax(1), atol=0.02)
    plain, _ = quantize(fx.symbolic_trace(model), [images], **GRID, safe_pairs=False)
    exact = scores(plain, images).softmax(1)
    with torch.inference_mode():
        cut = Emulation(plain, input_zero_point=ZERO).run(images).softmax(1)
    assert (cut - exact).abs().max() > 0.2
    np.testing.assert_allclose(ran(plain), cut if adds_in_16_bits() else exact, atol=0.02)


WEIGHTS = {
    "conv": (5, 3, 3, 2),
    "one channel": (4, 1, 3, 3),
    "linear": (7, 9),
    "one weight": (3, 1),
}


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(list(WEIGHTS)), st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 30.0]))
def test_no_two_neighbours_leave_16_bits_however_they_are_rounded(kind, seed, tail):
    """Nearest, or all up: what adaround may choose."""
    shape = WEIGHTS[kind]
    layer = nn.Linear(shape[1], shape[0]) if len(shape) == 2 else nn.Conv2d(shape[1], shape[0], shape[2:])
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator)
    layer.weight.data = weight.abs().pow(tail) * weight.sign()
    scale = short_scale(weight_ranges(layer).clamp(min=1e-8) / 127).view(-1, *[1] * (len(shape) - 1))
    for steps in ((layer.weight / scale).round(), (layer.weight.abs() / scale).ceil() * layer.weight.sign()):
        rows = in_order_of_sums(steps.clamp(-127, 127))
        pairs = rows[:, 1:] + rows[:, :-1]
        assert pairs.numel() == 0 or pairs.abs().max() <= 128
    assert (layer.weight / scale).abs().max() <= 127.5
    assert weight_ranges(layer, safe_pairs=False).le(weight_ranges(layer)).all()


# --- all together ---------------------------------------------------------------------------------------------------


def test_what_pays_is_kept_and_the_record_says_what_was_tried():
    model = spread_out(network())
    new, record = quantize_best(model, IMAGES.split(12), **GRID, per_channel=False, steps=40)
    tried, kept = record.arguments["tried"], record.arguments["kept"]
    assert {f"{prefix}{method}" for prefix in ("", "equalize ") for method in METHODS} < tried.keys()
    assert kept[0].startswith("equalize ") and set(kept) <= tried.keys()
    judges = IMAGES.split(12)[3:]
    assert round(score_difference(model, new, judges), 5) == min(tried.values())
    plain, _ = quantize(model, IMAGES.split(12), **GRID, per_channel=False)
    assert error(model, new) < error(model, plain)
    program = get_runtime("onnxruntime").load(export_onnx(new, CONTRACT), 1)
    np.testing.assert_allclose(program.run(PIXELS)[0], scores(new).softmax(1), atol=0.02)
    with pytest.raises(BadInput, match="1 batches of images were given; two are the least"):
        quantize_best(model, [IMAGES])


def test_the_page_shows_what_was_measured():
    root = Path(__file__).parent.parent
    figures = json.loads((root / "benchmarks" / "results" / "int8_collapse.json").read_text())["figures"]
    page = (root / "docs" / "quantization.md").read_text()
    assert table(figures["as_trained"]["rows"]) in page and table(figures["spread"]["rows"]) in page
    measured = json.loads((root / "benchmarks" / "results" / "saturation.json").read_text())
    assert saturation_table(measured["figures"]) in page and measured["machine"].split(";")[0] in page
