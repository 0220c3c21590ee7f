"""What a layout is: how the names of a public implementation relate to ours.

A layout is a function from one of our networks to pairs (path of our module, path of theirs). Below a pair the names
agree, as PyTorch's own layers have the same ones everywhere; the longest of our paths that holds a tensor decides.
"""

from collections.abc import Callable, Iterable
from typing import Any

Pairs = Iterable[tuple[str, str]]
Layout = Callable[[Any], Pairs]  # takes one of our networks: children are reached by name, as in model.stages


def conv_bn(ours: str, conv: str, bn: str) -> list[tuple[str, str]]:
    """Our brick of convolution and BatchNorm against two modules of theirs."""
    return [(f"{ours}.0", conv), (f"{ours}.1", bn)]


def children(path: str, module: Any) -> list[tuple[str, Any]]:
    """(path, module) of each child, in order."""
    return [(f"{path}.{name}", child) for name, child in module.named_children()]
