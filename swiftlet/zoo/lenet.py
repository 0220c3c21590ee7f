"""LeNet-300-100 and LeNet-5 (LeCun et al. 1998, Proc. IEEE 86(11)), as Caffe has them and as the literature on pruning
and compression measures them. Input (B, 1, 28, 28) and no other size: their first fully connected layer counts pixels.

Departures from the print: LeNet-5 has max-pooling, full connections between its maps, a plain linear classifier, and
ReLU after the hidden fully connected layer only (Caffe's lenet.prototxt). LeNet-300-100 has ReLU.
"""

from collections import OrderedDict

from torch import nn

from swiftlet.layers.init import init_plain
from swiftlet.zoo.card import Card, register

SIDE = 28


@register(
    Card(
        title="LeNet-300-100",
        family="lenet",
        paper="doi:10.1109/5.726791",
        input=(1, SIDE, SIDE),
        params=266_610,
        macs=266_200,
    )
)
def lenet_300_100(
    *, width: float = 1.0, num_classes: int = 10, in_channels: int = 1, dropout: float = 0.0
) -> nn.Sequential:
    """(B, in_channels, 28, 28) -> (B, num_classes) logits.

    `width` scales the two hidden layers of 300 and 100 units, rounded down, to at least 1.
    """
    first, second = (max(1, int(units * width)) for units in (300, 100))
    model = nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Sequential(nn.Linear(in_channels * SIDE**2, first), nn.ReLU()),
            fc2=nn.Sequential(nn.Linear(first, second), nn.ReLU()),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(second, num_classes),
        )
    )
    init_plain(model)
    return model


@register(
    Card(
        title="LeNet-5",
        family="lenet",
        paper="doi:10.1109/5.726791",
        input=(1, SIDE, SIDE),
        params=431_080,
        macs=2_293_000,
    )
)
def lenet5(*, width: float = 1.0, num_classes: int = 10, in_channels: int = 1, dropout: float = 0.0) -> nn.Sequential:
    """(B, in_channels, 28, 28) -> (B, num_classes) logits.

    `width` scales the 20 and 50 channels of the convolutions and the 500 hidden units, rounded down, to at least 1.
    """
    c1, c2, hidden = (max(1, int(c * width)) for c in (20, 50, 500))
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, c1, 5),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(c1, c2, 5),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Sequential(nn.Linear(c2 * 4 * 4, hidden), nn.ReLU()),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(hidden, num_classes),
        )
    )
    init_plain(model)
    return model
