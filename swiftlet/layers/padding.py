"""TensorFlow's SAME padding, for the networks whose published weights were trained with it."""

from torch import Tensor, nn
from torch.nn import functional as F

from swiftlet.layers.conv_bn import set_batchnorm_eps


def same_pads(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """(before, after) such that a window gives ceil(size / stride) results; the odd pixel goes after."""
    total = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """nn.Conv2d with the padding that the input's size asks for: (B, C, H, W) -> (B, C', ceil(H / s), ceil(W / s))."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, _pads(x, self.kernel_size, self.stride, self.dilation)))


class SameMaxPool2d(nn.MaxPool2d):
    """nn.MaxPool2d likewise; what is padded never wins."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = _pair(self.kernel_size), _pair(self.stride)
        padded = F.pad(x, _pads(x, kernel, stride, (1, 1)), value=float("-inf"))
        pooled: Tensor = super().forward(padded)
        return pooled


def tensorflow_padding(model: nn.Module) -> None:
    """In place: SAME padding for every padded strided convolution and max-pooling, and BatchNorm's eps 1e-3.

    At stride 1 SAME is the symmetric padding of odd kernels, so those layers stay.
    """
    set_batchnorm_eps(model, 1e-3)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Conv2d and max(layer.stride) > 1 and layer.padding != (0, 0):
                same = SameConv2d(
                    layer.in_channels,
                    layer.out_channels,
                    (layer.kernel_size[0], layer.kernel_size[1]),
                    (layer.stride[0], layer.stride[1]),
                    groups=layer.groups,
                    bias=layer.bias is not None,
                )
                same.load_state_dict(layer.state_dict())
                setattr(parent, name, same)
            elif type(layer) is nn.MaxPool2d and layer.padding not in (0, (0, 0)):
                setattr(parent, name, SameMaxPool2d(layer.kernel_size, layer.stride))


def _pads(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    height = same_pads(x.shape[-2], kernel[0], stride[0], dilation[0])
    width = same_pads(x.shape[-1], kernel[1], stride[1], dilation[1])
    return [*width, *height]


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)  # type: ignore[return-value]
