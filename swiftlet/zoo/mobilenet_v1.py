"""MobileNet V1 (Howard et al. 2017, arXiv:1704.04861, table 1). Input (B, 3, H, W), total stride 32.

Departures from the printed table: its last depthwise row says stride 2 at 7x7 -> 7x7, which is stride 1; pooling is
global, so that any side works. ReLU as in the paper (the authors' code has ReLU6).
"""

from torch import nn

from swiftlet.errors import BadInput
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.zoo.card import Card, register

# channels, stride: one depthwise separable convolution per row of table 1
ROWS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


@register(
    Card(paper="arXiv:1704.04861", input=(3, 224, 224), params=4_231_976, macs=568_740_352, top1=70.6),
)
def mobilenet_v1(
    *, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.001, stem_stride: int = 2
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width` is the paper's alpha: channels are int(alpha * c), at least 8 (section 3.3). `stem_stride=1` halves the
    total stride to 16, for inputs of 32 pixels and less. Raises BadInput for a width that is not positive.
    """
    if width <= 0 or stem_stride not in (1, 2):
        raise BadInput(f"mobilenet_v1: width={width} must be above 0 and stem_stride={stem_stride} 1 or 2")
    c = max(8, int(32 * width))
    layers: list[nn.Module] = [conv_bn(in_channels, c, 3, stride=stem_stride)]
    for channels, stride in ROWS:
        c_out = max(8, int(channels * width))
        layers += [conv_bn(c, c, 3, stride=stride, groups=c), conv_bn(c, c_out, 1)]
        c = c_out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(c, num_classes)]
    model = nn.Sequential(*layers)
    init_weights(model)
    return model
