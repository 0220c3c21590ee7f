"""Photos, from weights trained on ImageNet: a lower rate, which changes them little.

hardware  2 cores of an AMD EPYC
minutes   10
expected  clothing10 88 % with MobileNet V2 1.0 at 96 pixels (docs/log.md, 2026-11-24)
seeds     1
side      as `photos`, 64 at least
source    our experiments (docs/log.md)
"""

from dataclasses import replace

from swiftlet.recipes.photos import RECIPE as PHOTOS

RECIPE = replace(PHOTOS, name="photos_finetuning", lr=0.01)
