"""Digits, letters, symbols, from trained weights.

hardware  none yet; fine-tuning is made for photos, and this has been run on no more than tests
minutes   10
expected  not measured yet
seeds     none yet
side      as `glyphs`, 64 at least
source    the rate of photos_finetuning
"""

from dataclasses import replace

from swiftlet.recipes.glyphs import RECIPE as GLYPHS

RECIPE = replace(GLYPHS, name="glyphs_finetuning", lr=0.01)
