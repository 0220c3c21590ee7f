"""MobileNet V2 on ImageNet (Sandler et al. 2018, arXiv:1801.04381, section 6.1).

hardware  16 GPUs, asynchronous
minutes   not printed
expected  72.0 % top-1 at width 1.0 (the paper's table 4); not run here
seeds     not printed
side      224; 96 to 224 for the resolution multiplier (section 6.1)
source    paper; length, epsilon and dropout from its public code

The paper prints RMSprop with decay and momentum .9, weight decay 4e-5, rate .045 x .98 an epoch, 96 pictures a worker.
The authors' README (tensorflow/models, slim) gives the length: 5.5 million steps of 96 on one GPU; its code: epsilon 1,
dropout .2, no decay on depthwise weights, Inception's crops and colours.
Not said by a Recipe: the 16 workers do not wait for each other; random hue.
The README's own run differs: label smoothing .1, averaged weights (.9999), .98 every 2.5 epochs.
"""

from swiftlet.recipes import IMAGENET
from swiftlet.train.recipe import Recipe

BATCH = 96

RECIPE = Recipe(
    name="mobilenet_v2",
    optimizer="rmsprop", lr=0.045, momentum=0.9, square_decay=0.9, epsilon=1.0,
    weight_decay=4e-5, decayed="dense",
    batch=BATCH, epochs=5_500_000 * BATCH / IMAGENET,
    schedule="exponential", gamma=0.98, gamma_epochs=1, warmup=0.0,
    ema=0.0,
    label_smoothing=0.0, dropout=0.2,
    min_area=0.08, jitter=0.5, colour=0.5,
)  # fmt: skip
