"""GhostNet on ImageNet (Han et al. 2020, arXiv:1911.11907, section 4.2).

hardware  8 GPUs
minutes   not printed
expected  73.9 % top-1 at 1x (the paper's table 7); not run here
seeds     not printed
side      224
source    paper, its rate as a public copy quotes it; dropout, crops and what is decayed from its public code

The paper trains as ShuffleNet, but at a rate of .4 with 1024 pictures: 300,000 steps, a straight line to 0, weight
decay 4e-5. Dropout .2, crops from 8 % of the picture, colours and no decay of BatchNorm and biases are its code's.
The public training script (huawei-noah/ghostnet, TensorFlow) differs: 400 epochs, label smoothing .1, a rate of .1 to
.2, crops from 49 % for widths below 1. A PyTorch copy (argusswift/ghostnet.pytorch) reports 72.3 % with these settings
and 73.6 % with a cosine in place of the line.
"""

from swiftlet.recipes import IMAGENET
from swiftlet.train.recipe import Recipe

BATCH = 1024

RECIPE = Recipe(
    name="ghostnet",
    optimizer="sgd", lr=0.4, momentum=0.9, nesterov=False,
    weight_decay=4e-5, decayed="weights",
    batch=BATCH, epochs=300_000 * BATCH / IMAGENET,
    schedule="linear", warmup=0.0,
    ema=0.0,
    label_smoothing=0.0, dropout=0.2,
    min_area=0.08, jitter=0.4, colour=0.4,
)  # fmt: skip
