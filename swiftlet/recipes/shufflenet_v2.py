"""ShuffleNet V2 on ImageNet (Ma et al. 2018, arXiv:1807.11164, section 4): trained as V1, whose file has the rest.

hardware  not printed
minutes   not printed
expected  69.4 % top-1 at 1x (the paper's table 8: 30.6 % error); not run here
seeds     not printed
side      224
source    paper, which refers to ShuffleNet V1's settings

The public code differs as V1's: label smoothing .1, crops from 8 % of the picture; 69.4 %.
"""

from dataclasses import replace

from swiftlet.recipes.shufflenet_v1 import RECIPE as V1

RECIPE = replace(V1, name="shufflenet_v2")
