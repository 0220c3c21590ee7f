"""AlexNet (Krizhevsky et al. 2012, NeurIPS) as in Caffe's bvlc_alexnet. Input (B, 3, H, W), total stride 32.

Departures from the print: the two halves are one network with grouped convolutions, the input is 227 x 227, where the
figure says 224. Average pooling to 6 x 6 before the fully connected layers lets other sizes in; at 227 it changes
nothing. The network of Krizhevsky 2014 (arXiv:1404.5997), without groups and normalisation, which torchvision calls
AlexNet, is `variant="torchvision"`; its input is 224 x 224.
"""

from collections import OrderedDict
from typing import Literal

from torch import nn

from swiftlet.layers.init import init_plain
from swiftlet.zoo.card import Card, Variant, register

# channels, kernel, stride, padding, groups of conv1 to conv5
CAFFE = ((96, 11, 4, 0, 1), (256, 5, 1, 2, 2), (384, 3, 1, 1, 1), (384, 3, 1, 1, 2), (256, 3, 1, 1, 2))
TORCHVISION = ((64, 11, 4, 2, 1), (192, 5, 1, 2, 1), (384, 3, 1, 1, 1), (256, 3, 1, 1, 1), (256, 3, 1, 1, 1))
NORMALISED = (1, 2)  # convolutions that response normalisation follows, in Caffe's network
POOLED = (1, 2, 5)
SIDE = 6  # of the maps that the first fully connected layer reads


@register(
    Card(
        title="AlexNet",
        family="alexnet",
        paper="doi:10.1145/3065386",
        input=(3, 227, 227),
        params=60_965_224,
        macs=724_406_816,
        variants=(
            Variant(top1=57.1, source="Caffe's bvlc_alexnet readme"),
            Variant(arguments={"variant": "torchvision"}, top1=56.522, source="torchvision", side=224),
        ),
    )
)
def alexnet(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    variant: Literal["caffe", "torchvision"] = "caffe",
    small_input: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width`, which the paper does not have, scales all layers; the result is rounded down to an even number, so that
    the groups get equal parts. `small_input=True`, for 32 pixels and less: conv1 is 3x3 with stride 1, without
    pooling. Otherwise a side must be 39 pixels or more, 63 in torchvision's, which rounds sizes down.
    """

    def scale(channels: int) -> int:
        return 2 * max(1, int(channels * width / 2))

    caffe = variant == "caffe"
    blocks: dict[str, nn.Module] = {}
    c = in_channels
    for i, (channels, kernel, stride, padding, groups) in enumerate(CAFFE if caffe else TORCHVISION, start=1):
        if i == 1 and small_input:
            kernel, stride, padding = 3, 1, 1
        c_out = scale(channels)
        blocks[f"conv{i}"] = nn.Sequential(nn.Conv2d(c, c_out, kernel, stride, padding, groups=groups), nn.ReLU())
        if caffe and i in NORMALISED:
            blocks[f"norm{i}"] = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        if i in POOLED and not (i == 1 and small_input):
            blocks[f"pool{i}"] = nn.MaxPool2d(3, 2, ceil_mode=caffe)
        c = c_out
    hidden = scale(4096)
    head = {
        "fc6": nn.Sequential(nn.Linear(c * SIDE**2, hidden), nn.ReLU()),
        "dropout6": nn.Dropout(dropout),
        "fc7": nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU()),
        "dropout7": nn.Dropout(dropout),
    }
    order = ("fc6", "dropout6", "fc7", "dropout7") if caffe else ("dropout6", "fc6", "dropout7", "fc7")
    model = nn.Sequential(
        OrderedDict(
            blocks=nn.Sequential(OrderedDict(blocks)),
            pool=nn.AdaptiveAvgPool2d(SIDE),
            flatten=nn.Flatten(),
            head=nn.Sequential(OrderedDict((name, head[name]) for name in order)),
            classifier=nn.Linear(hidden, num_classes),
        )
    )
    init_plain(model)
    return model
