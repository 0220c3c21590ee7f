"""Digits, letters, symbols: a mirrored one is another one, and a tight crop cuts strokes off.

hardware  2 cores of an AMD EPYC
minutes   2 (`swiftlet fit`, all candidates together)
expected  98.9 % on the built-in digits with MobileNet V1 1/16 at 24 pixels (README)
seeds     1
side      that of the network which `fit` chooses, 16 to 48 for small pictures
source    our experiments
"""

from swiftlet.train.recipe import Recipe

RECIPE = Recipe(
    name="glyphs", lr=0.3, min_area=0.75, aspect=0.85, rotation=12.0, jitter=0.1, flip=False
)  # fmt: skip
