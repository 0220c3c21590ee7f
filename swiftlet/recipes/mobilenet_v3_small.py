"""MobileNet V3-Small on ImageNet (Howard et al. 2019, arXiv:1905.02244): trained as V3-Large, whose file has the rest.

hardware  a 4 x 4 TPU Pod, synchronous
minutes   not printed
expected  67.4 % top-1 at width 1.0 (the paper's table 3); not run here
seeds     not printed
side      224; 96 to 256 for the resolution multiplier (figure 7)
source    paper, as mobilenet_v3_large
"""

from dataclasses import replace

from swiftlet.recipes.mobilenet_v3_large import RECIPE as LARGE

RECIPE = replace(LARGE, name="mobilenet_v3_small")
