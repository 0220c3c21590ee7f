"""Quantization-aware training: the arithmetic of the int8 file, the slopes of the papers, and accuracy won back."""

import copy
import json
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from settle import settled
from torch import Tensor, fx, nn

from swiftlet.compress.fold import folded
from swiftlet.compress.qat import LayerOnGrid, LearnedQuantize, finished, prepare_qat
from swiftlet.compress.quantize import FakeQuantize, quantize
from swiftlet.compress.record import Record
from swiftlet.compress.scales import weight_ranges
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos, load_photos
from swiftlet.errors import BadInput, NothingToDo
from swiftlet.export.onnx import export_onnx
from swiftlet.runtime import get_runtime
from swiftlet.train.checkpoint import Checkpoints
from swiftlet.train.loop import Pictures, Training, accuracy
from swiftlet.train.recipe import Recipe
from swiftlet.zoo import create_model

CONTRACT = InputContract(side=24)
SCALE, ZERO = CONTRACT.grid
# depthwise; residual; residual with squeeze-and-excite and hard swish
NETWORKS = {
    "mobilenet_v1": {"width": 0.25, "stem_stride": 1},
    "resnet20": {"width": 0.5},
    "mobilenet_v3_small": {"width": 0.35},
}


@cache
def digits() -> Photos:
    return load_photos(None)


def pixels(n: int) -> np.ndarray:
    return digits().val.pixels(CONTRACT)[:n]


def images(n: int) -> Tensor:
    return torch.from_numpy(CONTRACT.normalise(pixels(n)))


@cache
def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return settled(create_model(name, num_classes=10, in_channels=3, **NETWORKS[name]), pixels(64), CONTRACT)


def prepare(name: str, **options: object) -> tuple[fx.GraphModule, Record]:
    return prepare_qat(network(name), images(64).split(32), input_scale=SCALE, input_zero_point=ZERO, **options)


def prepared(name: str, **options: object) -> fx.GraphModule:
    return prepare(name, **options)[0]


def scores(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.softmax(model(x), 1)


def moved(model: fx.GraphModule) -> fx.GraphModule:
    """As if trained: other weights, other step sizes."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.empty_like(parameter).uniform_(-0.1, 0.1, generator=generator)
            parameter.add_(noise * (parameter.abs().mean() + (parameter.ndim == 1)))
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_untrained_it_is_what_quantize_gives_to_the_bit(name):
    integer, _ = quantize(folded(network(name))[0], images(64).split(32), input_scale=SCALE, input_zero_point=ZERO)
    before = copy.deepcopy(network(name).state_dict())
    same, record = finished(prepared(name))
    assert same.code == integer.code
    wanted, got = integer.state_dict(), same.state_dict()
    assert got.keys() == wanted.keys() and all(torch.equal(got[key], wanted[key]) for key in wanted)
    assert record.name == "finished" and set(record.changed) == set(prepare(name)[1].changed)
    after = network(name).state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


def nearest_border(model: fx.GraphModule, x: Tensor) -> Tensor:
    """(B,): how close, in steps, a value of each picture comes to where rounding changes, by sums without error."""
    exact = copy.deepcopy(model).double()
    nearest = torch.full((len(x),), torch.inf, dtype=torch.float64)

    def look(grid: FakeQuantize, given: tuple[Tensor]) -> None:
        steps = (given[0] / grid.scale).flatten(1)
        torch.minimum(nearest, (steps - steps.floor() - 0.5).abs().amin(1), out=nearest)

    for module in exact.modules():
        if isinstance(module, FakeQuantize):
            module.register_forward_pre_hook(look)
    with torch.no_grad():
        exact(x.double())
    return nearest


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_is_the_integer_file_on_a_hundred_images(name, bits):
    """To 1e-5, but where a sum lies so close to a border that float32 and integer kernels round it apart."""
    model = moved(prepared(name, bits=bits))
    integer, _ = finished(model)
    x = images(100)
    wanted = scores(integer, x)
    assert torch.equal(scores(model.eval(), x), wanted)
    got = torch.from_numpy(get_runtime("onnxruntime").load(export_onnx(integer, CONTRACT), 1).run(pixels(100))[0])
    differences, distance = (got - wanted).abs().amax(1), nearest_border(integer, x)
    assert (distance[differences > 1e-5] < 5e-5).all()
    assert (differences < 1e-5).sum() >= 70 and differences.max() < 0.02  # what one flipped rounding moves
    assert wanted.std(0).mean() > 0.01  # pictures differ


def test_slopes_are_those_of_the_papers():
    """Straight through inside the range, none outside; equation 3 of LSQ for the step size."""
    torch.manual_seed(0)
    grid = LearnedQuantize(FakeQuantize(0.1, 7))
    x, weights = torch.randn(5, 3, 4, 4) * 9, torch.randn(5, 3, 4, 4)
    mine, plain, scale = x.clone().requires_grad_(), x.clone().requires_grad_(), torch.tensor(0.1, requires_grad=True)
    (grid(mine) * weights).sum().backward()
    steps = (plain / scale).clamp(-7, 248)
    ((steps + (steps.round() - steps).detach()) * scale * weights).sum().backward()
    torch.testing.assert_close(mine.grad, plain.grad)
    assert set((mine.grad / weights).unique().tolist()) == {0.0, 1.0}
    as_theirs = scale.grad / (3 * 4 * 4 * 255) ** 0.5  # their gradient scale
    torch.testing.assert_close(grid.growth.grad, as_theirs.view(1))

    layer = LayerOnGrid(nn.Linear(6, 2), 3, torch.tensor(0.1))
    layer(torch.ones(1, 6)).sum().backward()
    assert torch.equal(layer.layer.weight.grad, torch.ones(2, 6))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_take_as_many_values_as_their_bits_allow(bits):
    other = {"stem.0": 8, "classifier": 5}
    integer, record = finished(prepared("mobilenet_v1", bits=bits, layer_bits=other))
    for path in record.changed:
        layer, most = integer.get_submodule(path), 2 ** (other.get(path, bits) - 1) - 1
        steps = (layer.weight.flatten(1) / layer.weight_scale[:, None]).detach()
        assert (steps - steps.round()).abs().max() < 1e-4
        if most == 127:
            assert (weight_ranges(layer) / layer.weight_scale - most).abs().max() < 2  # as far as pairs are safe
        else:
            assert steps.round().abs().max() == most


def test_fewer_bits_make_a_smaller_file_of_the_same_kernels(tmp_path):
    sizes = []
    for bits in (8, 4, 2):
        file = export_onnx(finished(prepared("mobilenet_v1", bits=bits))[0], CONTRACT)
        options = ort.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 4
        ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        kernels = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
        assert kernels.count("QLinearConv") == 27 and "Cast" not in kernels  # unpacked before the first picture
        sizes.append(len(file))
    assert sizes[1] < 0.62 * sizes[0] and sizes[2] < 0.42 * sizes[0]


GENTLE = Recipe(name="gentle", batch=32, lr=0.01, min_area=0.8, rotation=8.0, jitter=0.0, flip=False)


def training(model: nn.Module, recipe: Recipe, steps: int) -> Training:
    train = digits().train
    return Training(model, Pictures(train.pixels(CONTRACT), train.labels), CONTRACT, recipe, steps=steps, seed=0)


def test_the_training_loop_takes_it_as_it_is(tmp_path):
    """Every parameter learns, and a run that was stopped goes on to the same bits."""
    straight, part, last = (
        training(prepared("mobilenet_v3_small", bits=4), replace(GENTLE, batch=8), 4) for _ in range(3)
    )
    before = {name: p.detach().clone() for name, p in straight.model.named_parameters()}
    assert straight.run()
    same = [name for name, p in straight.model.named_parameters() if torch.equal(p, before[name])]
    assert same == []
    assert any(name.endswith("growth") for name in before)
    part.run(checkpoints=Checkpoints(tmp_path / "run"), should_stop=lambda: part.step == 2)
    assert last.run(checkpoints=Checkpoints(tmp_path / "run"))
    wanted, got = straight.averaged(), last.averaged()
    assert wanted.keys() == got.keys() and all(torch.equal(wanted[name], got[name]) for name in wanted)

    model = straight.model
    model.load_state_dict(straight.delivered())
    integer, _ = finished(model)
    assert not integer.training and export_onnx(integer, CONTRACT)


@pytest.mark.slow
def test_training_wins_back_what_three_bits_lost():
    """Of the accuracy on held-out digits; the last figure is the file's, in ONNX Runtime."""
    contract, photos = InputContract(side=16), digits()
    pictures = Pictures(photos.train.pixels(contract), photos.train.labels)
    held_out, labels = photos.val.pixels(contract), photos.val.labels
    torch.manual_seed(0)
    model = create_model("mobilenet_v1", num_classes=10, width=0.125, stem_stride=1)
    first = Training(model, pictures, contract, replace(GENTLE, lr=0.1), steps=400, seed=0)
    first.run()
    model.load_state_dict(first.delivered())
    whole = accuracy(model, held_out, labels, contract)

    calibration = torch.from_numpy(contract.normalise(pictures.pixels[:128])).split(64)
    network, _ = prepare_qat(model, calibration, input_scale=SCALE, input_zero_point=ZERO, bits=3)
    damaged = accuracy(finished(network)[0], held_out, labels, contract)
    second = Training(network, pictures, contract, GENTLE, steps=200, seed=1)
    second.run()
    network.load_state_dict(second.delivered())
    file = export_onnx(finished(network)[0], contract)
    right = get_runtime("onnxruntime").load(file, 1).run(held_out)[0].argmax(1) == labels
    assert whole > 0.8 and damaged < whole - 0.3
    assert right.mean() > whole - 0.08


def test_what_cannot_be_prepared_or_finished_is_refused():
    model, x = network("mobilenet_v1"), [images(8)]
    with pytest.raises(BadInput, match="prepare_qat: call model"):
        prepare_qat(copy.deepcopy(model).train(), x)
    for bits in (1, 9, 4.0):
        with pytest.raises(BadInput, match=r"prepare_qat: bits=.*from 2 to 8"):
            prepare_qat(model, x, bits=bits)
    with pytest.raises(BadInput, match="layer_bits names 'stem', which is not quantized"):
        prepare_qat(model, x, layer_bits={"stem": 4})
    with pytest.raises(BadInput, match="no calibration images"):
        prepare_qat(model, [])
    with pytest.raises(NothingToDo, match="prepare_qat"):
        prepare_qat(nn.Sequential(nn.ReLU()).eval(), x)
    with pytest.raises(NothingToDo, match="finished: the network has no layer on a grid"):
        finished(folded(model)[0])
    diverged = prepared("mobilenet_v1")
    with torch.no_grad():
        diverged.get_submodule("quantize_3").growth.fill_(torch.nan)
    with pytest.raises(BadInput, match="finished: 'quantize_3' holds numbers that are not finite"):
        finished(diverged)
    with pytest.raises(BadInput, match="is a LayerOnGrid, which the exporter cannot write"):
        export_onnx(prepared("mobilenet_v1"), CONTRACT)


def test_the_record_is_enough_to_prepare_a_fresh_network():
    model, record = prepare_qat(network("mobilenet_v1"), [images(32)], bits=4, layer_bits={"stem.0": 8})
    again, same = prepare_qat(network("mobilenet_v1"), [images(32)], **json.loads(json.dumps(record.arguments)))
    assert same == record and again.code == model.code
    again.load_state_dict(moved(model).state_dict())
    assert torch.equal(scores(again, images(4)), scores(model, images(4)))
