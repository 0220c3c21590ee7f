"""Grey digits, letters, symbols by the ten thousand (MNIST, Fashion-MNIST), from random weights, for hours.

hardware  one core of an AMD EPYC
minutes   13 (20 epochs of MNIST, ResNet-20 3/16)
expected  MNIST 99.5 % with 9,500 parameters (docs/accuracy.md)
seeds     3
side      28, the pictures' own
source    public practice: nothing here was compared

`glyphs` with larger batches, less label smoothing, turns of up to 15 degrees, as elsewhere on MNIST (Ciresan et al.
2010, arXiv:1003.0358), and a little random erasing (Zhong et al. 2017, arXiv:1708.04896, on Fashion-MNIST). What would
make one class of another is left out: mirroring, hard crops.
"""

from dataclasses import replace

from swiftlet.recipes.glyphs import RECIPE as GLYPHS

RECIPE = replace(
    GLYPHS, name="glyphs_long", batch=128, warmup=0.05, label_smoothing=0.05, rotation=15.0, erasing=0.1
)  # fmt: skip
