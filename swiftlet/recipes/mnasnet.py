"""MnasNet-A1 on ImageNet (Tan et al. 2019, arXiv:1807.11626, section 5).

hardware  not printed (TPU in the public code)
minutes   not printed
expected  75.2 % top-1 (the paper's table 1); not run here
seeds     not printed
side      224
source    paper; length, averaging and epsilon from its public code

The paper prints RMSprop with decay and momentum .9, weight decay 1e-5, dropout .2, a rate from 0 to .256 in 5 epochs
and then x .97 every 2.4 epochs, 4096 pictures ("4K"), Inception's preprocessing. The authors' code (tensorflow/tpu) has
the same rate for a picture, .016 at 256, and gives 350 epochs, averaged weights with .9999 and epsilon .001.
Not said by a Recipe: BatchNorm's statistics keep .99 a step. In the code the decay counts from the first epoch, here
from the end of the warm-up: two steps of .97 later.
The public code differs: batch 1024, label smoothing .1, crops and mirroring without colours.
"""

from swiftlet.recipes import IMAGENET
from swiftlet.train.recipe import Recipe

EPOCHS, BATCH = 350, 4096

RECIPE = Recipe(
    name="mnasnet",
    optimizer="rmsprop", lr=0.256, momentum=0.9, square_decay=0.9, epsilon=1e-3,
    weight_decay=1e-5, decayed="weights",
    batch=BATCH, epochs=EPOCHS,
    schedule="exponential", gamma=0.97, gamma_epochs=2.4, warmup=5 / EPOCHS,
    ema=10_000 / (EPOCHS * IMAGENET / BATCH),  # a decay of .9999
    label_smoothing=0.0, dropout=0.2,
    min_area=0.08, jitter=0.5, colour=0.5,
)  # fmt: skip
