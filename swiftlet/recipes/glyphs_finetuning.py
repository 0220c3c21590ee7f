"""Digits, letters, symbols, from trained weights. Not run yet on more than tests: fine-tuning is made for photos."""

from dataclasses import replace

from swiftlet.recipes.glyphs import RECIPE as GLYPHS

RECIPE = replace(GLYPHS, name="glyphs_finetuning", lr=0.01)
