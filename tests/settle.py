"""Random networks whose scores differ from picture to picture, so that agreement of two paths means something."""

import numpy as np
import torch
from torch import nn

from swiftlet.data.contract import InputContract


def settled(model: nn.Module, pixels: np.ndarray, contract: InputContract) -> nn.Module:
    """In eval mode, with random BatchNorm scales and shifts, statistics that fit `pixels`, logits of moderate size."""
    generator = torch.Generator().manual_seed(3)
    images = torch.from_numpy(contract.normalise(pixels))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                if module.affine:
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(1, 0.5, generator=generator)
        model.train()(images)
        last = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
        size = 4 * model.eval()(images).std(0).mean()
        for parameter in last.parameters():
            parameter.div_(size)
        if last.bias is not None:
            last.bias.sub_(model(images).mean(0))
    return model
