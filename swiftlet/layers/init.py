"""Initial values, all in one place."""

from torch import nn


def init_weights(model: nn.Module) -> None:
    """Set, in place, the initial values of a freshly built network from torch's current generator.

    Conv2d: normal, variance 2 / fan_out (He et al. 2015), fan_out = kernel^2 * c_out / groups, bias 0.
    Linear: normal, std 0.01, bias 0. BatchNorm2d: scale 1, shift 0 (PyTorch's own). Frozen filters stay.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.requires_grad:
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def init_plain(model: nn.Module) -> None:
    """The same for a network without BatchNorm, which nothing rescales on its way: variance 2 / fan_in in every Conv2d
    and Linear but the last, so that the signal neither grows nor fades."""
    init_weights(model)
    *hidden, _ = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in hidden:
        nn.init.kaiming_normal_(layer.weight)
