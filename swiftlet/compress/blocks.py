"""Depth pruning: residual blocks go, and what they were added to takes their place.

A block x + f(x) without f is x, which is what residual networks are robust to (Veit et al. 2016, arXiv:1605.06431,
section 4.1). Narrower layers take as many operations as before; fewer blocks take fewer, and on small networks it is
the operations that take the time.
"""

import copy
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from swiftlet.compress.record import Record
from swiftlet.compress.trace import trace
from swiftlet.errors import BadInput, NothingToDo

ADDS = (operator.add, operator.iadd, torch.add)
Node = Any  # an fx.Node: torch types its args so broadly that every use would need a cast


def residual_blocks(model: nn.Module) -> tuple[str, ...]:
    """The blocks that can go, by the name of their sum in the traced graph: x + f(x), where f(x) depends on x alone.

    A shortcut that changes shape is a layer, so its block is none of these.
    """
    return tuple(_sums(trace(copy.deepcopy(model))))


def drop_blocks(model: nn.Module, blocks: Sequence[str]) -> tuple[fx.GraphModule, Record]:
    """Return a copy without these residual blocks; names are those of `residual_blocks`.

    Any error is possible, and it is that of f alone: x passes as it did. Record.changed names the layers that went.
    Raises NothingToDo for no blocks, BadInput for one that is not there.
    """
    if not blocks:
        raise NothingToDo("drop_blocks: no block is named")
    new = trace(copy.deepcopy(model))
    before = {path for path, _ in new.named_modules()}
    found = _sums(new)
    for name in blocks:
        if name not in found:
            raise BadInput(f"drop_blocks: {name!r} is no residual block of this network; there are {', '.join(found)}")
        total, x = found[name]
        for other, (_, y) in found.items():  # the next block may begin where this one ends
            found[other] = (found[other][0], x) if y is total else found[other]
        total.replace_all_uses_with(x)
        new.graph.erase_node(total)
    new.graph.eliminate_dead_code()
    new.delete_all_unused_submodules()
    new.recompile()
    after = {path for path, _ in new.named_modules()}
    gone = tuple(
        path for path, module in model.named_modules() if path in before - after and not list(module.children())
    )
    return new, Record(name="drop_blocks", arguments={"blocks": list(blocks)}, changed=gone)


def rebuild(model: nn.Module, record: Record) -> fx.GraphModule:
    """A fresh network without the blocks that drop_blocks has dropped according to its record. Raises BadInput."""
    blocks = record.arguments.get("blocks")
    if record.name != "drop_blocks" or not isinstance(blocks, list) or not blocks:
        raise BadInput(f"drop_blocks: the record {record.name!r} needs 'blocks', a list of names")
    return drop_blocks(model, blocks)[0]


def least_blocks(
    model: nn.Module, loss: Callable[[nn.Module], float], gain: Mapping[str, float]
) -> Iterator[tuple[str, float]]:
    """All blocks, the one that costs least loss for what it gains first, and the loss without it and those before it.

    loss: of a network, lower is better. gain: of each block, above 0, such as the milliseconds that it takes. Greedy,
    and lazy: each takes the loss of as many networks as there are blocks left.
    """
    names = residual_blocks(model)
    chosen: tuple[str, ...] = ()
    before = loss(model)
    while len(chosen) < len(names):
        after = {name: loss(drop_blocks(model, [*chosen, name])[0]) for name in names if name not in chosen}

        def price(name: str, before: float = before, after: Mapping[str, float] = after) -> float:
            more = after[name] - before
            return more / gain[name] if more > 0 else more * gain[name]

        best = min(after, key=price)
        chosen, before = (*chosen, best), after[best]
        yield best, before


def _sums(traced: fx.GraphModule) -> dict[str, tuple[Node, Node]]:
    """name: (the sum, x) of every block, in order."""
    found: dict[str, tuple[Node, Node]] = {}
    for node in traced.graph.nodes:
        if node.op == "call_function" and node.target in ADDS and len(node.args) == 2 and not node.kwargs:
            for x, y in (node.args, node.args[::-1]):
                if isinstance(x, fx.Node) and isinstance(y, fx.Node):
                    source = _through_identity(traced, x)
                    if y is not x and _depends_on_alone(y, source):
                        found[node.name] = (node, x)
                        break
    return found


def _through_identity(traced: fx.GraphModule, node: Node) -> Node:
    while node.op == "call_module" and isinstance(traced.get_submodule(node.target), nn.Identity):
        node = node.args[0]
    return node


def _depends_on_alone(node: Node, x: Node) -> bool:
    """Whether all that `node` is computed from comes through x."""
    todo, seen = [node], set()
    while todo:
        at = todo.pop()
        if at is x or at in seen:
            continue
        if not at.all_input_nodes and at.op != "get_attr":
            return False
        seen.add(at)
        todo += at.all_input_nodes
    return True
