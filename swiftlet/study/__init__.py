"""Experiments on the user's own machine: what the papers claim about cost and accuracy, measured here, with a verdict.

A study is a short module in timed/ or trained/ with `run(...) -> Finding`, which takes `bench`, `lab` or both, and
`draw(finding, figure)`. bench.py times its cases, trials.py trains its arms, finding.py is what it returns, page.py
writes table, picture and page. Rows of a Finding are all that `draw` reads. survey.py runs all that fit into some
minutes, overview.py orders what they found.
"""

from importlib import import_module
from types import ModuleType

from swiftlet.errors import BadInput

# name on the command line -> the question that it answers; modules have the same names, with underscores
TIMED = {
    "g1": "do equal channel widths save time at equal MACs?",
    "g2": "do groups cost time at equal MACs?",
    "g3": "do fragments, in series or in parallel, cost time at equal MACs?",
    "g4": "what do ReLU, shortcuts and other element-wise operations cost?",
    "separable": "do the MACs that depthwise separable convolutions save also save time?",
    "gemm": "is a 1x1 convolution, a plain matrix product, faster per MAC than a 3x3?",
    "staircase": "at which numbers of channels is a layer fast?",
    "multipliers": "does time fall with the square of width and resolution?",
    "activations": "what do h-swish, swish and squeeze-and-excitation cost?",
    "kernels": "are several small kernels faster than the large one that they replace?",
    "fused": "is a full convolution faster than an inverted bottleneck?",
    "relu-collapse": "what does ReLU lose in few dimensions?",
    "macs-vs-ms": "do multiply-adds, or bytes moved, give the time of a network?",
    "accelerator": "what would an Edge TPU or a DSP make of these networks?",
    "sparse": "below which density is a sparse 1x1 convolution faster than the dense one?",
}
TRAINED = {
    "linear-bottleneck": "does an activation behind a narrow layer cost accuracy? Needs --data",
    "shortcut": "do shortcuts between thin ends beat those between wide ends? Needs --data",
    "expansion": "does the expansion factor matter at equal MACs? Needs --data",
    "dead-features": "do residual sums keep channels from dying? Needs --data",
    "shuffle": "does channel shuffle make grouped networks more accurate? Needs --data",
    "bypass": "does a bypass around Fire modules make SqueezeNet more accurate? Needs --data",
    "fire": "does pooling late pay, and how far do squeeze ratio and 3x3 filters? Needs --data",
    "xception-order": "does an activation between depthwise and pointwise cost accuracy? Needs --data",
    "v3-ends": "do MobileNet V3's stem and last stage save time at no loss? Needs --data",
    "activations-trained": "is h-swish as accurate as swish, and what is lost in int8? Needs --data",
    "ghost": "how many maps can cheap operations make of others, and which operations? Needs --data",
    "redundancy": "how many feature maps are nearly filters of another one? Needs --data",
    "thin-or-shallow": "save width, depth or pixels, at equal MACs and equal time? Needs --data",
    "families": "which family is best at equal MACs, and at equal time? Needs --data",
    "low-rank": "does low-rank factorization save time without losing accuracy? Needs --data",
    "distill": "does a small network learn more from a larger one? Needs --data",
    "precision": "what do fewer bits cost in accuracy, and save in bytes? Needs --data",
    "compression-curve": "how small do pruning, sharing and coding make SqueezeNet and MobileNet? Needs --data",
    "deep-compression": "how small do pruning, sharing and entropy coding make LeNets? Needs --data mnist.npz",
}
STUDIES = TIMED | TRAINED

# what a study takes that shares no minutes with others: on 2 cores, ONNX Runtime and PyTorch, 0.1 s for each case on
# either (benchmarks/results/studies.json); only to tell what fits into a survey
MINUTES = {
    "g1": 0.4,
    "g2": 0.3,
    "g3": 0.6,
    "g4": 0.7,
    "separable": 3.3,
    "gemm": 0.1,
    "staircase": 2.1,
    "multipliers": 0.1,
    "activations": 0.3,
    "kernels": 0.1,
    "fused": 0.2,
    "relu-collapse": 0.1,
    "macs-vs-ms": 3.5,
    "accelerator": 0.7,
    "sparse": 0.3,
    "deep-compression": 36.0,
}


def get_study(name: str) -> ModuleType:
    """The module of that name; BadInput lists the known ones."""
    if name not in STUDIES:
        raise BadInput(f"unknown study {name!r}; known: {', '.join(STUDIES)}; and `swiftlet study all`, `tables`")
    folder = "trained" if name in TRAINED else "timed"
    return import_module(f"swiftlet.study.{folder}.{name.replace('-', '_')}")
