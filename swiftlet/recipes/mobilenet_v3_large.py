"""MobileNet V3-Large on ImageNet (Howard et al. 2019, arXiv:1905.02244, section 6.1.1).

hardware  a 4 x 4 TPU Pod, synchronous
minutes   not printed
expected  75.2 % top-1 at width 1.0 (the paper's table 3); not run here
seeds     not printed
side      224; 96 to 256 for the resolution multiplier (figure 7)
source    paper; length from torchvision and timm, epsilon from MnasNet's code

The paper prints RMSprop with momentum .9, rate .1 at 4096 pictures, a "learning rate decay rate of .01 every 3 epochs",
taken here as x .99, dropout .8 (the share that is kept), weight decay 1e-5, averaged weights with .9999, Inception's
preprocessing. It prints neither the length nor epsilon.
Not said by a Recipe: BatchNorm's statistics keep .99 a step; random hue.
torchvision's public run differs: rate .064 at 1024, .973 every 2 epochs, AutoAugment, erasing .2; 74.04 %.
"""

from swiftlet.recipes import IMAGENET
from swiftlet.train.recipe import Recipe

EPOCHS, BATCH = 600, 4096

RECIPE = Recipe(
    name="mobilenet_v3_large",
    optimizer="rmsprop", lr=0.1, momentum=0.9, square_decay=0.9, epsilon=1e-3,
    weight_decay=1e-5, decayed="dense",
    batch=BATCH, epochs=EPOCHS,
    schedule="exponential", gamma=0.99, gamma_epochs=3, warmup=0.0,
    ema=10_000 / (EPOCHS * IMAGENET / BATCH),  # a decay of .9999
    label_smoothing=0.0, dropout=0.2,
    min_area=0.08, jitter=0.5, colour=0.5,
)  # fmt: skip
