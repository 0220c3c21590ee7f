"""Convolution, BatchNorm, activation: the brick of every network since Inception."""

from torch import nn


def conv_bn(
    c_in: int,
    c_out: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int | tuple[int, int] | None = None,
    groups: int = 1,
    act: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride)) for odd kernels and the default padding.

    MACs per image: H' * W' * c_out * kernel^2 * c_in / groups. The convolution has no bias: BatchNorm's shift is one.
    `act=None` leaves the result linear. Padding is kernel // 2 on each side unless given; TensorFlow's SAME pads the
    other side at stride 2, see padding.py.
    """
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    around = (height // 2, width // 2) if padding is None else padding
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, c_out, (height, width), stride, padding=around, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    ]
    if act is not None:
        layers.append(act())
    return nn.Sequential(*layers)


def set_batchnorm_eps(model: nn.Module, eps: float) -> None:
    """In place, for every BatchNorm2d: TensorFlow's networks and their ports have another eps than PyTorch's 1e-5."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
