"""MobileNet V2 (Sandler et al. 2018, arXiv:1801.04381, table 2). Input (B, 3, H, W), total stride 32.

Departure from the text: it says 19 residual bottlenecks, the table holds 17.
"""

from torch import Tensor, nn

from swiftlet.errors import BadInput
from swiftlet.layers.channels import make_divisible
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.zoo.card import Card, register

# expansion, channels, blocks, stride of the first block: one row per row of table 2
ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride); the sum only where both shapes agree (figure 3b)."""

    def __init__(self, c_in: int, c_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        c_mid = c_in * expansion
        self.expand = conv_bn(c_in, c_mid, 1, act=nn.ReLU6) if expansion > 1 else nn.Identity()
        self.depthwise = conv_bn(c_mid, c_mid, 3, stride=stride, groups=c_mid, act=nn.ReLU6)
        self.project = conv_bn(c_mid, c_out, 1, act=None)  # linear bottleneck, section 3.2
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        y: Tensor = self.project(self.depthwise(self.expand(x)))  # (B, c_out, H / stride, W / stride)
        return x + y if self.residual else y


@register(
    Card(paper="arXiv:1801.04381", input=(3, 224, 224), params=3_504_872, macs=300_774_272, top1=72.0),
)
def mobilenet_v2(
    *, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2, stem_stride: int = 2
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width` scales every layer but the last convolution, which stays at 1280 below width 1. `stem_stride=1` halves
    the total stride to 16, for inputs of 32 pixels and less. Raises BadInput for a width that is not positive.
    """
    if width <= 0 or stem_stride not in (1, 2):
        raise BadInput(f"mobilenet_v2: width={width} must be above 0 and stem_stride={stem_stride} 1 or 2")
    c, c_last = make_divisible(32 * width), make_divisible(1280 * max(1.0, width))
    layers: list[nn.Module] = [conv_bn(in_channels, c, 3, stride=stem_stride, act=nn.ReLU6)]
    for expansion, channels, blocks, stride in ROWS:
        c_out = make_divisible(channels * width)
        for i in range(blocks):
            layers.append(InvertedResidual(c, c_out, expansion, stride if i == 0 else 1))
            c = c_out
    layers += [conv_bn(c, c_last, 1, act=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)]
    model = nn.Sequential(*layers, nn.Linear(c_last, num_classes))
    init_weights(model)
    return model
