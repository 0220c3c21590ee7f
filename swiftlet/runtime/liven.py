"""Random weights that leave all of a network alive, and a check that a file has no dead part.

A network whose residual branches end in a BatchNorm with zero gammas, as many are initialised, computes nothing there.
A converter may see it and delete 48 of ResNet-50's 53 convolutions: the outputs still agree, and the time is that of
another network. So untrained networks are livened before they are exported and timed.
"""

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from swiftlet.errors import BadInput

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)
FACTORS = {  # operator -> inputs that multiply the others
    "BatchNormalization": (1,), "Conv": (1,), "ConvTranspose": (1,), "Gemm": (1,), "MatMul": (0, 1), "Mul": (0, 1),
}  # fmt: skip
BATCH = 8  # pictures of noise that set the statistics


def livened(model: nn.Module, input: tuple[int, ...], *, seed: int = 0) -> nn.Module:
    """A copy, in eval mode, in which no branch vanishes: zero gammas are 1, weights that are all zero are drawn anew,
    and the BatchNorm statistics are those of noise of the shape `input`, (3, side, side), at every depth.

    The same seed gives the same numbers. Raises BadInput if the model cannot run on such an input.
    """
    new = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in new.modules() if isinstance(module, NORMS) and module.track_running_stats]
    with torch.no_grad():
        for name, parameter in new.named_parameters():
            _revive(new.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], parameter, generator)
        momenta = [norm.momentum for norm in norms]
        new.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over what it sees
            norm.train()
        try:
            new(torch.randn(BATCH, *input, generator=generator))
        except (RuntimeError, ValueError, TypeError) as error:
            raise BadInput(f"liven: the model does not run on {BATCH} inputs of shape {input}: {error}") from error
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return new.eval()


def vanishing(file: Path | bytes) -> tuple[str, ...]:
    """Names of a file's weights, gammas and factors that are zero throughout: what they multiply can be deleted without
    a change of the outputs. Raises BadFile."""
    from onnx import numpy_helper

    from swiftlet.cost.screen import screen_onnx

    graph = screen_onnx(file).model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    stored = {  # dequantized weight -> what is stored
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type in ("DequantizeLinear", "Identity", "Cast", "Transpose") and node.input[0] in constants
    }
    dead: list[str] = []
    for node in graph.node:
        for i in FACTORS.get(node.op_type, ()):
            name = stored.get(node.input[i], node.input[i])
            if name in constants and name not in dead and not np.any(numpy_helper.to_array(constants[name])):
                dead.append(name)
    return tuple(dead)


def _revive(owner: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> None:
    if name != "weight" and parameter.any():
        return
    if isinstance(owner, NORMS):
        if name == "weight":
            parameter[parameter == 0] = 1.0
    elif isinstance(owner, LAYERS):
        if name == "weight" and not parameter.any():
            fan_in = max(1, parameter[0].numel())
            parameter.normal_(0, fan_in**-0.5, generator=generator)
    elif not parameter.any() and "bias" not in name:  # such as a scale per layer
        parameter.fill_(1.0)
