"""Branches that are only there for training become one convolution (RepVGG, arXiv:2101.03697, section 3.3)."""

import copy
import operator
from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from swiftlet.compress.fold import folded, is_training
from swiftlet.compress.record import Record
from swiftlet.compress.trace import trace
from swiftlet.errors import BadInput, NothingToDo

SUMS = (operator.add, torch.add)  # tracing writes x += y as x + y


def reparameterize(model: nn.Module) -> tuple[fx.GraphModule, Record]:
    """Return a copy in which parallel convolutions whose results are only summed are one. Exact up to float rounding.

    Each BatchNorm2d goes into the Conv2d that feeds it, as in fold_batchnorm. One that stands alone on a branch, beside
    convolutions of the same tensor, is a convolution as well: its kernel is the identity, in as many groups as they
    have. Convolutions of one tensor with the same stride, dilation and groups are summed where their kernels have the
    same centre, for then the smaller ones fit into the largest. So the blocks of RepVGG and MobileOne become plain
    chains; a residual sum, whose branches are more than one layer, stays.

    Raises BadInput in training mode, NothingToDo if there is nothing to fold and nothing to sum.
    """
    if is_training(model):
        raise BadInput("reparameterize: call model.eval() first, batch statistics are still moving")
    new = trace(copy.deepcopy(model))
    _drop_identities(new)
    changed: dict[str, None] = {}  # a set that keeps its order
    reasons: dict[str, str] = {}
    found = True
    while found:  # a BatchNorm behind a sum has a convolution before it as soon as that sum is one
        new, records = folded(new)
        merged, left = _merge(new)
        found = bool(records or merged)
        for record in records:
            changed |= dict.fromkeys(record.changed)
            reasons |= dict(record.skipped)
        changed |= dict.fromkeys(merged)
        reasons |= left
    skipped = tuple((path, reason) for path, reason in reasons.items() if path not in changed)
    if not changed:
        raise NothingToDo(f"reparameterize: no BatchNorm2d to fold and no convolutions to sum; skipped {skipped}")
    return new, Record(name="reparameterize", changed=tuple(changed), skipped=skipped)


def deployed(model: nn.Module) -> tuple[fx.GraphModule, tuple[Record, ...]]:
    """A traced copy as it is shipped, and what was done: BatchNorm folded, parallel branches summed, if there are any.

    Raises BadInput in training mode.
    """
    plain = trace(copy.deepcopy(model))
    _drop_identities(plain)
    plain, records = folded(plain)
    if not any(_parallel(plain, _terms(node)) for node in plain.graph.nodes if _is_sum(node)):
        return plain, records
    try:
        summed, record = reparameterize(plain)
    except NothingToDo:
        return plain, records
    return summed, (*records, record)


def _drop_identities(traced: fx.GraphModule) -> None:
    """In place: what stands between two layers and does nothing would hide that they are neighbours."""
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and type(traced.get_submodule(node.target)) is nn.Identity:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    traced.recompile()


class _Fit(NamedTuple):
    """Convolutions of the same tensor for which all of this agrees can be summed."""

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    channels: int
    centre: tuple[tuple[int, bool], ...]  # for height and width: pixels by which the result grows; odd kernel or even

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "_Fit":
        axes: Any = zip(conv.padding, conv.dilation, conv.kernel_size, strict=True)
        centre = tuple((2 * p - d * (k - 1), k % 2 == 1) for p, d, k in axes)
        return cls(conv.stride, conv.dilation, conv.groups, conv.out_channels, centre)

    def has_identity(self) -> bool:
        """Whether some kernel hands on its input."""
        return self.stride == (1, 1) and self.centre == ((0, True), (0, True))


def _merge(traced: fx.GraphModule) -> tuple[list[str], dict[str, str]]:
    """In place: one convolution for every set that can be summed. The paths of those, and why others were left."""
    merged: list[str] = []
    reasons: dict[str, str] = {}
    uses = Counter(str(n.target).rpartition(".")[0] if n.op == "get_attr" else n.target for n in traced.graph.nodes)
    for root in list(traced.graph.nodes):
        if not _is_sum(root) or _is_part_of_sum(root):
            continue
        terms = _terms(root)
        gone: set[fx.Node] = set()
        for branches in _parallel(traced, terms):
            sets, left = _sets(traced, branches, uses, terms)
            reasons |= left
            for first, *others in sets:
                convs = [traced.get_submodule(str(node.target)) for node in (first, *others)]
                traced.set_submodule(str(first.target), _sum(convs))
                merged += [str(node.target) for node in (first, *others)]
                gone |= set(others)
        terms = [term for term in terms if term not in gone]
        if gone or len(terms) == 1:  # one term: the other was zero
            _replace_sum(traced, root, terms, gone)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return merged, reasons


def _is_sum(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target in SUMS and len(node.args) == 2 and not node.kwargs


def _is_part_of_sum(node: fx.Node) -> bool:
    """Whether its result goes into another sum, once, and nowhere else."""
    users = list(node.users)
    return len(users) == 1 and _is_sum(users[0]) and users[0].args.count(node) == 1


def _terms(node: fx.Node) -> list[Any]:
    """What a sum of sums adds up, but for zeros."""
    found: list[Any] = []
    for term in node.args:
        if isinstance(term, fx.Node):
            found += _terms(term) if _is_sum(term) and _is_part_of_sum(term) else [term]
        elif term != 0:
            found.append(term)
    return found


def _parallel(traced: fx.GraphModule, terms: list[Any]) -> list[list[fx.Node]]:
    """Convolutions, and BatchNorms beside them, that read the same tensor: two nodes at least per list."""
    readers: dict[fx.Node, dict[fx.Node, Any]] = {}
    for term in terms:
        if isinstance(term, fx.Node) and term.op == "call_module":
            layer = traced.get_submodule(str(term.target))
            if isinstance(layer, nn.Conv2d) or (isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None):
                readers.setdefault(term.args[0], {})[term] = layer  # type: ignore[arg-type]
    found = [layers for layers in readers.values() if len(layers) > 1]
    return [list(layers) for layers in found if any(isinstance(layer, nn.Conv2d) for layer in layers.values())]


def _sets(
    traced: fx.GraphModule, branches: list[fx.Node], uses: Counter[Any], terms: list[Any]
) -> tuple[list[list[fx.Node]], dict[str, str]]:
    """Which of these branches can be summed, a convolution first, and why the others cannot."""
    fits: dict[_Fit, list[fx.Node]] = {}
    reasons: dict[str, str] = {}
    alone: list[tuple[fx.Node, nn.BatchNorm2d]] = []
    for node in branches:
        layer: Any = traced.get_submodule(str(node.target))
        fault = _fault(traced, node, layer)
        if uses[node.target] > 1 or terms.count(node) > 1:
            fault = "it is used more than once"
        if fault:
            reasons[str(node.target)] = fault
        elif isinstance(layer, nn.BatchNorm2d):
            alone.append((node, layer))
        else:
            fits.setdefault(_Fit.of(layer), []).append(node)
    for node, bn in alone:
        fit = next((f for f in fits if f.has_identity() and f.channels == bn.num_features), None)
        if fit:
            traced.set_submodule(str(node.target), _identity(bn, fit.groups))
            fits[fit].append(node)
    for fit, nodes in fits.items():
        other = next((f for f in fits if f is not fit), None)
        if len(nodes) == 1 and other:
            unlike = [name for name, mine, its in zip(fit._fields, fit, other, strict=True) if mine != its]
            reasons[str(nodes[0].target)] = f"differs from {fits[other][0].target} in {' and '.join(unlike)}"
    return [nodes for nodes in fits.values() if len(nodes) > 1], reasons


def _fault(traced: fx.GraphModule, node: fx.Node, layer: nn.Module) -> str | None:
    """Why a branch cannot be summed with any other."""
    if len(node.users) > 1:
        return "it also feeds something else"
    if type(layer) not in (nn.Conv2d, nn.BatchNorm2d):
        return f"it is a {type(layer).__name__}, which may pad in another way"
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        return f"its padding is {layer.padding!r} of {layer.padding_mode}, not a number of zeros"
    source: Any = node.args[0]
    writers = [user for user in source.users if user.args[0] is source and _writes(traced, user)]
    return f"{writers[0].name} changes its input in place" if writers else None


def _writes(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node changes the first value that it reads."""
    if node.op == "call_module":
        return bool(getattr(traced.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else node.target.__name__
    return name.endswith("_") or bool(node.kwargs.get("inplace"))


def _identity(bn: nn.BatchNorm2d, groups: int) -> nn.Conv2d:
    """A BatchNorm as a 1x1 convolution."""
    conv = nn.Conv2d(bn.num_features, bn.num_features, 1, groups=groups, bias=False, device="meta")
    width = bn.num_features // groups
    kernel = torch.eye(width).repeat(groups, 1).view(bn.num_features, width, 1, 1)
    conv.weight = nn.Parameter(kernel.to(bn.running_var))
    return fuse_conv_bn_eval(conv.eval(), bn)


def _sum(convs: list[Any]) -> nn.Conv2d:
    """One convolution that gives what these give together; summed in double precision."""
    first = convs[0]
    height, width = (max(conv.kernel_size[axis] for conv in convs) for axis in (0, 1))
    around = (max(conv.padding[0] for conv in convs), max(conv.padding[1] for conv in convs))
    total = nn.Conv2d(
        first.in_channels,
        first.out_channels,
        (height, width),
        first.stride,
        around,
        first.dilation,
        first.groups,
        device="meta",
    )
    weight = first.weight.new_zeros(total.weight.shape, dtype=torch.float64)
    bias = first.weight.new_zeros(first.out_channels, dtype=torch.float64)
    for conv in convs:
        rows, columns = conv.kernel_size
        top, left = (height - rows) // 2, (width - columns) // 2
        weight[:, :, top : top + rows, left : left + columns] += conv.weight.detach()
        if conv.bias is not None:
            bias += conv.bias.detach()
    total.weight, total.bias = nn.Parameter(weight.to(first.weight)), nn.Parameter(bias.to(first.weight))
    return total.eval()


def _replace_sum(traced: fx.GraphModule, root: fx.Node, terms: list[Any], gone: set[fx.Node]) -> None:
    """In place: what used the sum `root` uses the sum of `terms`; the old one and `gone` are taken out."""
    total = terms[0]
    with traced.graph.inserting_before(root):
        for term in terms[1:]:
            total = traced.graph.call_function(operator.add, (total, term))
    root.replace_all_uses_with(total)
    dead = [root]
    while dead:  # not by eliminate_dead_code, which takes a change in place whose result nobody names for dead
        node = dead.pop()
        if not node.users:
            inputs = node.all_input_nodes
            traced.graph.erase_node(node)
            dead += [source for source in inputs if source in gone or _is_sum(source)]
