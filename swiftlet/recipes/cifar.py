"""Tens of thousands of small colour pictures (CIFAR), from random weights, for an hour and more.

hardware  none yet; meant for a few cores of a CPU
minutes   60 and more
expected  not measured yet
seeds     none yet
side      32, the pictures' own
source    public practice: nothing here was compared

Batch 128, rate .1, momentum .9 with Nesterov and weight decay 5e-4 are those of Wide ResNets (Zagoruyko and Komodakis
2016, arXiv:1605.07146, section 3), here with a cosine. Crops of three quarters of the side and mirroring shift as far
as the usual 4 pixels of padding. RandAugment (arXiv:1909.13719) and erasing in place of cutout (arXiv:1708.04552) are
weaker than in those papers: networks of less than 300,000 parameters learn CIFAR by heart slowly, if ever.
"""

from swiftlet.train.recipe import Recipe

RECIPE = Recipe(
    name="cifar", batch=128, lr=0.1, warmup=0.05, label_smoothing=0.05, min_area=0.56, aspect=0.85,
    jitter=0.1, policy="randaugment", operations=1, magnitude=3.0, erasing=0.1,
)  # fmt: skip
