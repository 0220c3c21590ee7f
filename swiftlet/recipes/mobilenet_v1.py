"""MobileNet V1 on ImageNet (Howard et al. 2017, arXiv:1704.04861, section 3.2).

hardware  not printed; TensorFlow with asynchronous gradients, as for Inception V3 (50 GPUs)
minutes   not printed
expected  70.6 % top-1 at width 1.0 (the paper's table 6); not run here
seeds     not printed
side      224, for the resolution multiplier also 192, 160, 128 (section 3.4)
source    paper; numbers from Inception V3's, which it says it follows

The paper: RMSprop, no label smoothing, weaker crops than Inception's, little or no decay on depthwise filters, and else
"similar to Inception V3", whose section 8 (arXiv:1512.00567) prints rate, decay, epsilon, clipping, 100 epochs, 32
pictures a worker and averaged weights. Momentum, 4e-5 and .9999 are those of Inception's and slim's code; neither paper
prints them. The smallest crop and the light are our reading of "weaker".
Not said by a Recipe: the workers do not wait for each other; BatchNorm's statistics keep .9997 a step (slim).
Slim's public script differs: plain SGD, batch 64, .94 every 2.5 epochs, Inception's own crops; 70.9 %.
"""

from swiftlet.recipes import IMAGENET
from swiftlet.train.recipe import Recipe

EPOCHS, BATCH = 100, 32

RECIPE = Recipe(
    name="mobilenet_v1",
    optimizer="rmsprop", lr=0.045, momentum=0.9, square_decay=0.9, epsilon=1.0, clip=2.0,
    weight_decay=4e-5, decayed="dense",
    batch=BATCH, epochs=EPOCHS,
    schedule="exponential", gamma=0.94, gamma_epochs=2, warmup=0.0,
    ema=10_000 / (EPOCHS * IMAGENET / BATCH),  # a decay of .9999
    label_smoothing=0.0,
    min_area=0.25, jitter=0.2, colour=0.2,
)  # fmt: skip
