"""Cross-layer equalization: channels that are wide in one layer and narrow in the next meet in the middle.

Where nothing but ReLU, pooling and the like stands between two layers, a channel may be divided by s in the first one
and its use multiplied by s in the second: f(x / s) s = f(x). s = sqrt(r1 r2) / r2 makes both ranges of weights equal
(Nagel et al. 2019, arXiv:1906.04721, section 4.1), which helps most where all channels share one scale.
"""

import copy
import math
import operator
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from swiftlet.compress.fold import is_training
from swiftlet.compress.grid_points import Node, is_layer
from swiftlet.compress.record import Record
from swiftlet.compress.trace import trace
from swiftlet.errors import BadInput, NothingToDo

HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Identity, nn.Dropout, nn.Flatten,
)  # fmt: skip
ROUNDS = 20  # over all pairs; a chain of three layers takes several
SETTLED = 1.01  # all factors of a round lie within this of 1
WIDEST = 1e4  # a factor that a nearly dead channel may get


def equalize(model: nn.Module, *, relu6: str = "keep") -> tuple[fx.GraphModule, Record]:
    """Return a copy of a folded network in which neighbouring layers share their ranges of weights, channel by channel.

    Exact up to float rounding. A chain begins at a Conv2d or Linear and may end in several: each that reads its result
    through nothing but ReLU, LeakyReLU, dropout and pooling is scaled, depthwise ones are both end and next beginning,
    and the product with the gate of squeeze-and-excitation is passed. What a chain meets otherwise (a sum, a
    concatenation, h-swish, the scores) leaves its first layer skipped, with the reason. ReLU6 cuts at 6 whatever the
    channel's scale: `relu6="keep"` ends chains there; "relu" replaces each ReLU6 by a ReLU first, as the paper does,
    which changes what the network computes for values above 6, and says which under "replaced".
    Raises BadInput in training mode, NothingToDo if there is no pair.
    """
    if is_training(model):
        raise BadInput("equalize: call model.eval() first, batch statistics are still moving")
    if relu6 not in ("keep", "relu"):
        raise BadInput(f"equalize: relu6={relu6!r} must be 'keep' or 'relu'")
    new = trace(copy.deepcopy(model))
    replaced = _replace_relu6(new) if relu6 == "relu" else []
    modules: dict[str, Any] = dict(new.named_modules())
    calls = Counter(node.target for node in new.graph.nodes if node.op == "call_module")
    pairs: list[tuple[Any, list[Any]]] = []
    changed: dict[str, None] = {}
    skipped: dict[str, str] = {}
    for node in new.graph.nodes:
        if not is_layer(node, modules):
            continue
        readers: dict[Node, None] = {}
        fault = "it is called more than once" if calls[node.target] > 1 else _follow(node, modules, calls, readers)
        if fault:
            skipped[node.target] = fault
            continue
        pairs.append((modules[node.target], [modules[reader.target] for reader in readers]))
        changed |= dict.fromkeys((node.target, *(reader.target for reader in readers)))
    if not pairs:
        raise NothingToDo(f"equalize: no layer feeds others through ReLU and pooling alone; skipped {skipped}")
    with torch.no_grad():
        for _ in range(ROUNDS):
            factors = torch.cat([_equalize_pair(first, seconds) for first, seconds in pairs])
            if factors.log().abs().max() < math.log(SETTLED):
                break
    arguments: dict[str, object] = {"relu6": relu6} | ({"replaced": replaced} if replaced else {})
    left = tuple((path, reason) for path, reason in skipped.items() if path not in changed)
    return new, Record(name="equalize", arguments=arguments, changed=tuple(changed), skipped=left)


def _replace_relu6(traced: fx.GraphModule) -> list[str]:
    """In place; the paths."""
    paths = [path for path, module in traced.named_modules() if isinstance(module, nn.ReLU6)]
    for path in paths:
        traced.set_submodule(path, nn.ReLU())
    return paths


def _follow(node: Node, modules: dict[str, Any], calls: Counter[Any], readers: dict[Node, None]) -> str | None:
    """Collect the layers that read `node` through what scales along; or say what stands in the way."""
    if not node.users:
        return "nothing reads it"
    for user in node.users:
        if user.op == "output":
            return "its result leaves the network"
        if is_layer(user, modules):
            if calls[user.target] > 1:
                return f"{user.target} is called more than once"
            readers[user] = None
        elif _scales_along(user, node, modules):
            fault = _follow(user, modules, calls, readers)
            if fault:
                return fault
        else:
            kind = type(modules[user.target]).__name__ if user.op == "call_module" else user.name
            return f"{kind} stands behind it"
    return None


def _scales_along(node: Node, source: Node, modules: dict[str, Any]) -> bool:
    """Whether what it gives is multiplied, channel by channel, by what `source` is multiplied by."""
    if node.op == "call_module":
        return isinstance(modules[node.target], HOMOGENEOUS)
    if node.op != "call_function":
        return False
    if node.target in (operator.mul, torch.mul):  # by a gate; a square would be multiplied twice
        other = [value for value in node.args if value is not source]
        return len(other) == 1 and isinstance(other[0], fx.Node) and _is_gate(other[0], modules)
    return node.target in (torch.relu, F.relu, torch.flatten)


def _is_gate(node: Node, modules: dict[str, Any]) -> bool:
    """Whether it comes from a sigmoid or its like: whose input is a layer that is scaled back, or no part of it."""
    return node.op == "call_module" and isinstance(modules[node.target], nn.Sigmoid | nn.Hardsigmoid)


def _equalize_pair(first: Any, seconds: list[Any]) -> Tensor:
    """In place; the factors, (channels,)."""
    ours = first.weight.abs().flatten(1).amax(1)
    if first.bias is not None:  # a filter that died still has its bias, which is what it gives
        ours = ours.where(ours > 0, first.bias.abs())
    uses = [_by_input(second, len(ours)) for second in seconds]
    theirs = torch.stack([weight.abs().amax((1, 3)).flatten() for weight in uses]).amax(0)
    factors: Tensor = (ours / theirs).sqrt().clamp(1 / WIDEST, WIDEST).where((ours > 0) & (theirs > 0), 1.0)
    first.weight.div_(factors.view(-1, *[1] * (first.weight.ndim - 1)))
    if first.bias is not None:
        first.bias.div_(factors)
    for weight in uses:
        weight.mul_(factors.view(weight.shape[0], 1, weight.shape[2], 1))
    return factors


def _by_input(layer: Any, channels: int) -> Tensor:
    """A view of the weights: (groups, outputs of a group, channels that a group reads, kernel or pixels)."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    weight: Tensor = layer.weight.view(groups, layer.weight.shape[0] // groups, channels // groups, -1)
    return weight
