"""The files of a network before it is trained: bytes and milliseconds do not depend on the values of the weights."""

import numpy as np
import torch
from torch import fx, nn

from swiftlet.compress.quantize import quantize
from swiftlet.compress.reparameterize import deployed
from swiftlet.data.contract import InputContract
from swiftlet.export.onnx import export_onnx


def untrained_files(model: nn.Module, contract: InputContract) -> dict[str, bytes]:
    """The files of an untrained network by precision."""
    plain, _ = deployed(model.eval())
    return {"float32": export_onnx(plain, contract), "int8": _rounded(plain, contract)}


def untrained_int8(model: nn.Module, contract: InputContract) -> bytes:
    """The int8 file alone."""
    return _rounded(deployed(model.eval())[0], contract)


def _rounded(plain: fx.GraphModule, contract: InputContract) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (1, contract.side, contract.side, 3), np.uint8)
    images = torch.from_numpy(contract.normalise(noise))
    scale, zero_point = contract.grid or (None, None)
    integer, _ = quantize(plain, [images], input_scale=scale, input_zero_point=zero_point)
    return export_onnx(integer, contract)
