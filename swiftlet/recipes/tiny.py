"""A few hundred photos, from random weights, for 20 minutes and more: hundreds of epochs over the same pictures.

hardware  none yet; meant for a few cores of a CPU
minutes   20 and more
expected  not measured yet
seeds     none yet
side      that of the network which `fit` chooses; the photos' own at most
source    public practice: nothing here was compared

What repeats hundreds of times has to look different each time: smaller crops, RandAugment (Cubuk et al. 2019,
arXiv:1909.13719) at half its strength, random erasing (Zhong et al. 2017, arXiv:1708.04896), and twice the weight
decay, which with few pictures deserves more care than the method (Brigato et al. 2021, arXiv:2108.13122).
"""

from dataclasses import replace

from swiftlet.recipes.photos import RECIPE as PHOTOS

RECIPE = replace(
    PHOTOS, name="tiny", weight_decay=1e-3, min_area=0.25, jitter=0.3, colour=0.3,
    policy="randaugment", operations=2, magnitude=5.0, erasing=0.2,
)  # fmt: skip
