"""Xception on ImageNet (Chollet 2017, arXiv:1610.02357, sections 4.3 to 4.5).

hardware  60 NVIDIA K80, synchronous
minutes   4,320 (3 days)
expected  79.0 % top-1 (the paper's table 1); not run here
seeds     not printed
side      299
source    paper; batch, length and the decay of the average are ours, after Inception V3's paper and code

The paper prints SGD with momentum .9, rate .045 x .94 every 2 epochs, weight decay 1e-5, dropout .5, averaged weights
("Polyak"), no auxiliary head. It prints neither the batch nor the length: 32 pictures a GPU and 100 epochs are those of
Inception V3 (arXiv:1512.00567, section 8), .9999 that of its code. No augmentation is named: Inception's crops.
"""

from swiftlet.recipes import IMAGENET
from swiftlet.train.recipe import Recipe

EPOCHS, BATCH = 100, 60 * 32

RECIPE = Recipe(
    name="xception",
    optimizer="sgd", lr=0.045, momentum=0.9, nesterov=False,
    weight_decay=1e-5, decayed="weights",
    batch=BATCH, epochs=EPOCHS,
    schedule="exponential", gamma=0.94, gamma_epochs=2, warmup=0.0,
    ema=10_000 / (EPOCHS * IMAGENET / BATCH),  # a decay of .9999
    label_smoothing=0.0, dropout=0.5,
    min_area=0.08, jitter=0.5, colour=0.5,
)  # fmt: skip
