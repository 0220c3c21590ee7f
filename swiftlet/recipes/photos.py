"""Photos, from random weights, in minutes of a CPU.

hardware  2 cores of an AMD EPYC
minutes   10 (`swiftlet fit`, all candidates together)
expected  clothing10 82 %, imagenette160 75 %, both with ResNet-18 1/4 at 96 pixels (README; docs/log.md)
seeds     1
side      that of the network which `fit` chooses; the photos' own at most
source    our experiments (docs/log.md)
"""

from swiftlet.train.recipe import Recipe

RECIPE = Recipe(name="photos", batch=32, min_area=0.6)
