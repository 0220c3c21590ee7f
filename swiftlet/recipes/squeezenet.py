"""SqueezeNet on ImageNet (Iandola et al. 2016, arXiv:1602.07360; numbers of its authors' solver and network files).

hardware  not printed
minutes   not printed
expected  57.5 % top-1 for 1.0 (the paper's table 2); not run here
seeds     not printed
side      227, out of 256 (the network files); the paper's table says 224
source    the authors' repository (forresti/SqueezeNet), to which the paper refers; its rate, .04, is printed

170,000 steps of 512 pictures (32 at a time, 16 times accumulated), a rate from .04 to 0 in a straight line, momentum
.9, weight decay 2e-4 on everything, dropout .5. The network file crops 227 of 256 pixels and lists no mirroring.
Not said by a Recipe: the crop has always the same size, here (227 / 256)^2 of the area is the least; pixels as BGR
minus 104, 117, 123; Caffe's momentum takes the rate in.
"""

from swiftlet.recipes import IMAGENET
from swiftlet.train.recipe import Recipe

BATCH = 512

RECIPE = Recipe(
    name="squeezenet",
    optimizer="sgd", lr=0.04, momentum=0.9, nesterov=False,
    weight_decay=2e-4, decayed="all",
    batch=BATCH, epochs=170_000 * BATCH / IMAGENET,
    schedule="linear", warmup=0.0,
    ema=0.0,
    label_smoothing=0.0, dropout=0.5,
    min_area=(227 / 256) ** 2, aspect=1.0, jitter=0.0, flip=False,
)  # fmt: skip
