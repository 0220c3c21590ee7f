"""The image classifier of MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597, section 4.2), to be compared with.

A stem and three residual blocks of 16, 32 and 64 channels at 32 pixels. Its Keras file counts 78,666 parameters: ours,
480 running statistics, and 240 biases of convolutions that a BatchNorm follows, which do nothing and are left out.
"""

from collections import OrderedDict

from torch import Tensor, nn

from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.zoo.resnet import basic

PRINTED_PARAMS = 78_666
UNCOUNTED = 480 + 240


class Block(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride); a 1x1 convolution is the shortcut where shapes differ."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.body = basic(c_in, c_out, c_out, stride)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(c_in, c_out, 1, stride)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        out: Tensor = self.act(self.body(x) + self.shortcut(x))
        return out


def resnet8(*, num_classes: int = 10) -> nn.Sequential:
    """(B, 3, 32, 32) -> (B, num_classes) logits."""
    model = nn.Sequential(
        OrderedDict(
            stem=conv_bn(3, 16, 3),
            stages=nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(64, num_classes),
        )
    )
    init_weights(model)
    return model
