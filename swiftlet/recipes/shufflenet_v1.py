"""ShuffleNet V1 on ImageNet (Zhang et al. 2017, arXiv:1707.01083, section 4).

hardware  4 GPUs
minutes   1,440 to 2,880 (1 or 2 days)
expected  67.4 % top-1 at 1x, 3 groups (the paper's table 2: 32.6 % error); not run here
seeds     not printed
side      224
source    paper; what is decayed, and the colours, from its public code

The paper prints 300,000 steps of 1024 pictures, a rate from .5 to 0 in a straight line, weight decay 4e-5, "slightly
less aggressive scale augmentation", and for the rest ResNeXt's settings (momentum .9). The smallest crop is our reading
of that. The authors' code (megvii, ShuffleNet-Series) spares BatchNorm and biases, and has colours +- .4.
Not said by a Recipe: the code recomputes BatchNorm's statistics over one more epoch; pixels as BGR 0 to 255.
The public code differs: label smoothing .1, crops from 8 % of the picture; 67.8 %.
"""

from swiftlet.recipes import IMAGENET
from swiftlet.train.recipe import Recipe

BATCH = 1024

RECIPE = Recipe(
    name="shufflenet_v1",
    optimizer="sgd", lr=0.5, momentum=0.9, nesterov=False,
    weight_decay=4e-5, decayed="weights",
    batch=BATCH, epochs=300_000 * BATCH / IMAGENET,
    schedule="linear", warmup=0.0,
    ema=0.0,
    label_smoothing=0.0,
    min_area=0.25, jitter=0.4, colour=0.4,
)  # fmt: skip
