"""Weights of few bits and of half precision: the values, the bytes of the file, and its scores through the runtime."""

import copy
import json

import numpy as np
import onnx
import onnx_graphs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from settle import settled
from torch import Tensor, nn

from swiftlet.compress.fold import folded
from swiftlet.compress.half import LARGEST, overflows, to_half
from swiftlet.compress.quantize import quantize
from swiftlet.compress.weight_only import best_scales, weight_only
from swiftlet.cost.count import count_onnx
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput, NothingToDo
from swiftlet.export.half import half_compute, half_weights
from swiftlet.export.onnx import export_onnx
from swiftlet.runtime import get_runtime
from swiftlet.zoo import create_model

CONTRACT = InputContract(side=32)
NOISE = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
IMAGES = torch.from_numpy(CONTRACT.normalise(NOISE))


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    """Folded, with depthwise layers, squeeze-and-excite and residual sums."""
    torch.manual_seed(0)
    model = create_model("mobilenet_v3_small", width=0.5, num_classes=10)
    return folded(settled(model, NOISE, CONTRACT))[0]


def scores(model: nn.Module, images: Tensor = IMAGES) -> np.ndarray:
    with torch.inference_mode():
        return torch.softmax(model(images), 1).numpy()


def run_file(file: bytes, runtime: str = "onnxruntime") -> np.ndarray:
    return get_runtime(runtime).load(file, 1).run(NOISE)[0]


def layers(model: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


# --- few bits -------------------------------------------------------------------------------------------------------

# and the bytes of the file as a share of the float file's
FORMS = [
    ({"bits": 8}, 0.28),
    ({"bits": 8, "group": 8}, 0.39),
    ({"bits": 4}, 0.16),
    ({"bits": 4, "group": 16, "symmetric": False}, 0.22),
    ({"bits": 3, "symmetric": False}, 0.16),
    ({"bits": 2}, 0.095),
    ({"bits": 2, "group": 12, "symmetric": False}, 0.18),
]


@pytest.mark.parametrize(("form", "share"), FORMS, ids=str)
def test_the_file_holds_codes_and_computes_what_the_network_computes(form, share, plain):
    before = copy.deepcopy(plain.state_dict())
    small, record = weight_only(plain, **form)
    assert all(torch.equal(t, before[name]) for name, t in plain.state_dict().items())
    assert not set(before) - set(small.state_dict()) and record.name == "weight_only"
    again, same = weight_only(plain, **json.loads(json.dumps(record.arguments)))
    assert same == record and all(torch.equal(t, again.state_dict()[n]) for n, t in small.state_dict().items())

    lowest, highest = form.get("symmetric", True), 2 ** form["bits"] - 1
    for name, layer in layers(small).items():
        given = plain.get_submodule(name)
        assert layer.bias is None or torch.equal(layer.bias, given.bias)
        if name not in record.changed:
            assert torch.equal(layer.weight, given.weight)
            continue
        rows = layer.weight.detach().reshape(layer.code_scale.numel(), -1)
        codes = rows / layer.code_scale.view(-1, 1) + layer.code_zero.view(-1, 1)
        assert (codes - codes.round()).abs().max() < 1e-3
        assert codes.round().min() >= lowest and codes.round().max() <= highest

    file = export_onnx(small, CONTRACT)
    for runtime in ("onnxruntime", "torch"):
        np.testing.assert_allclose(run_file(file, runtime), scores(small), atol=1e-5, rtol=0)
    full = export_onnx(plain, CONTRACT)
    assert len(file) < share * len(full)
    assert count_onnx(file).uncovered == () and count_onnx(file).cost.params == count_onnx(full).cost.params


def test_three_levels_are_placed_where_max_placed_them():
    """Max 1960, Quantizing for Minimum Distortion, table 1, N = 3: 0 and +-1.224 for a normal variable, error 0.190."""
    rows = torch.randn(4, 50_000, generator=torch.Generator().manual_seed(0))
    scale = best_scales(rows, 2)
    error = ((rows / scale[:, None]).round().clamp(-1, 1) * scale[:, None] - rows).square().mean(1)
    assert (scale - 1.224).abs().max() < 0.08 and (error - 0.1902).abs().max() < 0.003


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=40, max_size=40),
    st.integers(2, 8),
    st.sampled_from((None, 4, 40)),
    st.booleans(),
)
def test_rounding_is_never_worse_than_over_the_full_range(values, bits, group, symmetric):
    model = nn.Sequential(nn.Linear(40, 1)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(values)[None])
    new, _ = weight_only(model, bits=bits, group=group, symmetric=symmetric)
    rows = model[0].weight.detach().double().view(-1, group or 40)
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    if symmetric:
        low, high = -torch.maximum(high, -low), torch.maximum(high, -low)
    step = ((high - low) / (2**bits - 1 - symmetric)).clamp(min=1e-12)[:, None]
    zero = (-low[:, None] / step).round()
    full = ((rows / step).round().clamp(-zero, 2**bits - 1 - symmetric - zero) * step - rows).square().sum()
    error = (new[0].weight.detach().double().view_as(rows) - rows).square().sum()
    assert error <= full * 1.001 + 40 * (1e-6 * rows.abs().max()) ** 2  # float32


def test_layers_that_would_not_shrink_are_named():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1, groups=8), nn.Flatten(), nn.Linear(8, 3)).eval()
    new, record = weight_only(model, group=9)
    assert record.changed == ("0", "3") and dict(record.skipped).keys() == {"1"}
    assert "for every 1 weights" in dict(record.skipped)["1"]
    assert new[0].code_scale.shape == (8, 3) and new[3].code_scale.shape == (3, 1)  # 8 weights hold no group of 9
    with pytest.raises(NothingToDo, match="integers already"):
        weight_only(new[0])
    with pytest.raises(NothingToDo, match="weight_only"):
        weight_only(nn.Sequential(nn.ReLU()).eval())


def test_codes_are_packed_where_they_fill_bytes_and_it_pays():
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(21, 6))
    model = nn.Sequential(nn.Conv2d(3, 15, 5), nn.Conv2d(15, 21, 3), nn.Conv2d(21, 21, 2, bias=False), *head).eval()
    small, _ = weight_only(model, bits=2)
    file = export_onnx(small, CONTRACT)
    sizes = [t.dims for t in onnx.load_from_string(file).graph.initializer if t.data_type == onnx.TensorProto.UINT8]
    assert [int(np.prod(d)) for d in sizes if len(d)] == [1125, 2835, 441, 126]
    np.testing.assert_allclose(run_file(file), scores(small), atol=1e-6)


def test_impossible_forms_are_refused(plain):
    for options, message in (
        ({"bits": 1}, "bits=1, needs"),
        ({"bits": 9}, "bits=9, needs"),
        ({"group": 0}, "group=0, needs"),
    ):
        with pytest.raises(BadInput, match=f"weight_only: {message}"):
            weight_only(plain, **options)
    with pytest.raises(BadInput, match="weight_only: call model"):
        weight_only(copy.deepcopy(plain).train())


# --- half precision -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_the_half_file_is_the_rounded_network(kind, plain):
    half, record = to_half(plain, kind)
    assert record.arguments == {"kind": kind} and set(layers(plain)) <= set(record.changed)
    for name, value in half.state_dict().items():
        given = plain.state_dict()[name]
        rounded = given.to(getattr(torch, kind)).float() if given.numel() >= 64 else given
        assert value.dtype == torch.float32 and torch.equal(value, rounded)
    full = export_onnx(plain, CONTRACT)
    file = half_weights(full, kind)
    assert len(file) < 0.6 * len(full)
    np.testing.assert_allclose(run_file(file), scores(half), atol=1e-5, rtol=0)
    assert half_weights(export_onnx(half, CONTRACT), kind) == file  # rounded twice is rounded once
    assert np.abs(run_file(file) - scores(plain)).max() > 1e-6
    assert count_onnx(file).uncovered == () and count_onnx(file).cost.params == count_onnx(full).cost.params


def test_arithmetic_in_float16(plain):
    full = export_onnx(plain, CONTRACT)
    file = half_compute(full)
    assert len(file) < 0.6 * len(full)
    program = get_runtime("onnxruntime").load(file, 1)
    got = program.run(NOISE)[0]
    assert got.dtype == np.float32 and program.precision == "float16"
    assert 1e-6 < np.abs(got - scores(plain)).max() < 0.01


def test_values_that_float16_cannot_hold_are_named():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        model[0].weight[2, 1, 0, 0] = 65519.0  # rounds down to the largest
    assert to_half(model)[0][0].weight.max() == LARGEST
    assert overflows(model, [IMAGES]).keys() == {"0"}
    with torch.no_grad():
        model[0].weight[2, 1, 0, 0] = -7e4
    with pytest.raises(BadInput, match=r"to_half: 1 tensors exceed .*'0.weight', reaches 70000; use bfloat16"):
        to_half(model)
    assert to_half(model, "bfloat16")[0][0].weight.min() == -70144  # the nearest with 8 bits
    for convert in (half_weights, half_compute):
        with pytest.raises(BadInput, match=r"reaches 70000, beyond .* 65504; use bfloat16"):
            convert(export_onnx(model, CONTRACT))
    assert half_weights(export_onnx(model, CONTRACT), "bfloat16")
    with torch.no_grad():
        model[0].weight[2, 1, 0, 0] = 0.1
    assert overflows(model, [IMAGES]) == {}
    with pytest.raises(BadInput, match="no images"):
        overflows(model, [])


def test_what_cannot_be_halved_is_refused(plain):
    integer, _ = quantize(plain, [IMAGES])
    with pytest.raises(BadInput, match="computes with integers"):
        half_compute(export_onnx(integer, CONTRACT))
    with pytest.raises(NothingToDo, match="half_weights"):
        half_weights(export_onnx(integer, CONTRACT))
    _, record = to_half(nn.Sequential(weight_only(nn.Sequential(nn.Linear(9, 9)).eval())[0], nn.PReLU(64)).eval())
    assert dict(record.skipped) == {"0.0": "it lies on an integer grid"} and record.changed == ("1",)
    with pytest.raises(NothingToDo, match="to_half"):
        to_half(integer)
    with pytest.raises(BadInput, match="kind='float8', needs 'float16' or 'bfloat16'"):
        to_half(plain, "float8")
    old = onnx.load_from_string(onnx_graphs.float_net())
    old.opset_import[0].version = 12
    with pytest.raises(BadInput, match="bfloat16 needs 13; use float16"):
        half_weights(old.SerializeToString(), "bfloat16")
