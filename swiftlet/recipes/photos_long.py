"""Photos by the thousand, from random weights, for 20 minutes and more.

hardware  none yet; meant for a few cores of a CPU
minutes   20 and more
expected  not measured yet
seeds     none yet
side      that of the network which `fit` chooses; the photos' own at most
source    public practice: nothing here was compared

`photos` with smaller crops, colours, and one light operation of RandAugment (Cubuk et al. 2019, arXiv:1909.13719, whose
tables want less of it the smaller the network) on each.
"""

from dataclasses import replace

from swiftlet.recipes.photos import RECIPE as PHOTOS

RECIPE = replace(
    PHOTOS, name="photos_long", min_area=0.25, colour=0.3,
    policy="randaugment", operations=1, magnitude=5.0, erasing=0.1,
)  # fmt: skip
