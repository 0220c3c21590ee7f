"""Untrained networks that are timed do all their work: no branch is zero, and a file that has one is caught."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx_graphs import serialize, tensor
from torch import nn

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.export.untrained import untrained_files
from swiftlet.runtime.liven import livened, vanishing
from swiftlet.zoo import create_model

CONTRACT = InputContract(side=32)


def zero_initialised() -> nn.Module:
    """ResNet-18 whose residual branches end in zero gammas, as timm's and others' do."""
    torch.manual_seed(0)
    model = create_model("resnet18", width=0.125, num_classes=10)
    for block in model.modules():
        norms = [child for name, child in block.named_modules() if isinstance(child, nn.BatchNorm2d)]
        if hasattr(block, "shortcut") or hasattr(block, "downsample"):
            nn.init.zeros_(norms[1].weight)
    return model.eval()


def dead_norms(model: nn.Module) -> int:
    return sum(not norm.weight.any() for norm in model.modules() if isinstance(norm, nn.BatchNorm2d))


def test_a_resnet_with_zero_gammas_is_caught_and_livened():
    model = zero_initialised()
    assert dead_norms(model) == 8  # of 20 convolutions, 16 feed them: a network of four would be timed
    for file in untrained_files(model, CONTRACT).values():
        assert len(vanishing(file)) == 8
    alive = livened(model, (3, 32, 32))
    for file in untrained_files(alive, CONTRACT).values():
        assert vanishing(file) == ()
    assert dead_norms(alive) == 0 and dead_norms(model) == 8  # the model that was given is as it was


def test_every_branch_matters_at_every_depth():
    model = livened(create_model("resnet18", width=0.125, num_classes=10), (3, 32, 32))
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = model(image)
        for norm in [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]:
            gammas = norm.weight.clone()
            norm.weight.zero_()
            assert (model(image) - whole).abs().max() > 1e-3 * whole.abs().max()
            norm.weight.copy_(gammas)


def test_statistics_are_those_of_noise_and_the_seed_decides():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))
    nn.init.zeros_(model[3].weight)
    one, same, other = (livened(model, (3, 12, 12), seed=seed) for seed in (0, 0, 1))
    assert not one.training and one[1].momentum == model[1].momentum
    with torch.inference_mode():
        out = one(torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(2)))
    assert out.mean((0, 2, 3)).abs().max() < 0.5 and 0.5 < out.std((0, 2, 3)).min() < out.std((0, 2, 3)).max() < 2
    assert torch.equal(one[3].weight, same[3].weight) and not torch.equal(one[3].weight, other[3].weight)
    with pytest.raises(BadInput, match=r"does not run on 8 inputs of shape \(4, 12, 12\)"):
        livened(model, (4, 12, 12))


def test_zero_factors_are_named_and_other_zeros_are_not():
    node, zeros = helper.make_node, np.zeros((2, 3, 1, 1))
    nodes = [
        node("Conv", ["image", "w"], ["c"]),
        node("Mul", ["c", "scale"], ["m"]),
        node("Add", ["m", "b"], ["scores"]),
    ]
    for dead in ("w", "scale"):
        values = {"w": np.ones((2, 3, 1, 1)), "scale": np.ones((2, 1, 1)), "b": np.zeros((2, 1, 1))}
        values[dead] = zeros if dead == "w" else np.zeros((2, 1, 1))
        constants = [tensor(name, value) for name, value in values.items()]
        file = serialize(nodes, constants, shape=["N", 3, 4, 4], dtype=TensorProto.FLOAT)
        assert vanishing(file) == (dead,)
