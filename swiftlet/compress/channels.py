"""The channels of a network, and those of a narrower one.

A narrower network has the operations of the old one: its chunks halve fewer channels, its shuffles deal fewer, its
groups are smaller. So the old channel that takes a place there must have gone where that place goes: into the same
values, and into the same groups of grouped convolutions. `Narrow` follows the places to find out where they go.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from swiftlet.compress.follow import PER_CHANNEL, Flow, Node, column_of, is_pointwise, numbers_in
from swiftlet.errors import BadInput

LARGEST = 2**24  # values of an image; a record may claim anything
NOWHERE = -1  # the number of what an operation refused to give


class Channels(Flow):
    """The channels of a traced network, for an image of `shape` (C, H, W); those that belong together have one number.

    `fixed` are the numbers that cannot go, with the reason; `links` are lists of numbers of which an operation makes
    parts of equal size; `pieces` are those of a split, or what lies before a slice and in it. Raises BadInput if the
    network cannot take such an image.
    """

    def __init__(self, traced: fx.GraphModule, shape: Sequence[int], values: dict[Node, Any] | None = None) -> None:
        self.fixed: dict[int, str] = {}
        self.links: list[list[int]] = []
        self.pieces: dict[Node, list[list[int]]] = {}
        self.opaque: dict[Node, int] = {}
        self.creators: list[str] = []  # of each number, the node that made it
        self._parent: list[int] = []
        super().__init__(traced, _on_meta(traced, shape) if values is None else values)
        self._settle()

    @cached_property
    def signatures(self) -> dict[int, tuple[tuple[str, str], ...]]:
        """Of each number: in which values it occurs and in which groups of grouped convolutions, and made by what."""
        homes = defaultdict[int, list[tuple[str, str]]](list)
        for key, numbers in self._visits:
            for number in numbers:
                homes[self._find(number)].append((key, self.creators[number]))
        return {number: tuple(sorted(keys)) for number, keys in homes.items()}

    def rows(self) -> dict[str, list[int]]:
        """For each layer with weights, by its path, the channels to which the rows of its tensors belong."""
        found: dict[str, list[int]] = {}
        for node, read in self.reads.items():
            layer: Any = self.traced.get_submodule(node.target)
            times = layer.out_channels // len(read) if isinstance(layer, nn.Conv2d) else 1
            found.setdefault(node.target, self.makes.get(node) or [number for number in read for _ in range(times)])
        return found

    def made_by(self) -> dict[str, dict[int, int]]:
        """For each layer, by its path, the channels that it is the first to make, and by which row."""
        known: set[int] = set()
        found: dict[str, dict[int, int]] = {}
        for node, numbers in self.makes.items():
            own = {number: row for row, number in reversed(list(enumerate(numbers))) if number not in known}
            known |= own.keys()
            if own:
                found[node.target] = dict(reversed(own.items()))
        return found

    def _new(self, width: int) -> list[int]:
        start = len(self._parent)
        self._parent.extend(range(start, start + width))
        self.creators.extend([self.node.name] * width)
        return list(range(start, start + width))

    def _again(self, number: int, time: int) -> int:
        self._parent.append(number)
        self.creators.append(f"{self.creators[number]}, {self.node.name} {time}")
        return len(self._parent) - 1

    def _same(self, one: list[int], other: list[int]) -> None:
        for a, b in zip(one, other, strict=True):
            low, high = sorted((self._find(a), self._find(b)))
            self._parent[high] = low

    def _find(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = number = self._parent[self._parent[number]]
        return number

    def _fix(self, x: Tensor, reason: str) -> None:
        for number in numbers_in(x):
            self.fixed.setdefault(number, reason)

    def _link(self, numbers: list[int]) -> None:
        self.links.append(numbers)

    def _lengths(self, x: Tensor, ends: Iterable[int]) -> list[int]:
        column = column_of(x, 1) or []
        self.pieces[self.node] = [column[start:stop] for start, stop in pairwise([0, *ends])]
        return [len(piece) for piece in self.pieces[self.node]]

    def _fault(self, numbers: Iterable[int]) -> None:
        raise AssertionError(f"{self.node.name}: in a network that runs all groups are equal")

    def _unknown(self, reason: str) -> Any:
        self.opaque[self.node] = self._new(1)[0]
        self.fixed[self.opaque[self.node]] = reason
        return self._filled(self.opaque[self.node])

    def _refused(self, tensors: list[Tensor]) -> Any:
        return self._lost(self.node.name, tensors)

    def _settle(self) -> None:
        """Each number becomes the least that it is one with."""
        least = [self._find(number) for number in range(len(self._parent))]

        def settled(numbers: list[int]) -> list[int]:
            return [least[number] for number in numbers]

        self.strands = {node: [self.creators[number] for number in numbers] for node, numbers in self.reads.items()}
        self.reads = {node: settled(numbers) for node, numbers in self.reads.items()}
        self.makes = {node: settled(numbers) for node, numbers in self.makes.items()}
        self.pieces = {node: [settled(piece) for piece in pieces] for node, pieces in self.pieces.items()}
        self.links = [settled(numbers) for numbers in self.links]
        self.opaque = {node: least[number] for node, number in self.opaque.items()}
        fixed = list(self.fixed.items())
        self.fixed = {least[number]: reason for number, reason in reversed(fixed)}  # the first reason counts


class Narrow(Channels):
    """The channels of a network that has only `places` of the numbers of `old`, as many for each layer.

    `places` say how many there are, not which: the numbers here are its own, and `stand_for` has the place of each.
    Places of channels that meet where as many are not expected are in `faults`; `cuts` are the sizes of the parts that
    slices and splits get.
    """

    def __init__(self, old: Channels, places: Iterable[int]) -> None:
        self.old, self.places = old, set(places)
        self.stand_for: list[int] = []
        self.faults: set[int] = set()
        self.cuts: dict[Node, list[int]] = {}
        super().__init__(old.traced, (), old.values)

    def _new(self, width: int) -> list[int]:
        made = self.old.makes.get(self.node) or [self.old.opaque.get(self.node, NOWHERE)] * width
        places = [number for number in made if number in self.places or number == NOWHERE]
        if not places:  # all that this layer makes goes with channels that have no place
            self.faults |= set(made)
            places = [NOWHERE]
        self.stand_for += places
        return super()._new(len(places))

    def _again(self, number: int, time: int) -> int:
        self.stand_for.append(self.stand_for[number])
        return super()._again(number, time)

    def _same(self, one: list[int], other: list[int]) -> None:
        if len(one) == len(other):
            super()._same(one, other)
        else:
            self._fault([*one, *other])

    def _lengths(self, x: Tensor, ends: Iterable[int]) -> list[int]:
        pieces = self.old.pieces[self.node]
        self.cuts[self.node] = [sum(number in self.places for number in piece) for piece in pieces]
        return self.cuts[self.node]

    def _fault(self, numbers: Iterable[int]) -> None:
        self.faults |= {self.stand_for[number] for number in numbers}

    def _refused(self, tensors: list[Tensor]) -> Any:
        if self.node not in self.old.opaque:
            for x in tensors:
                self._fault(numbers_in(x))
        return self._unknown("")

    def misfits(self) -> set[int]:
        """Places in `faults`, and those for which the old network has too few channels that go the same way."""
        there, needed = Counter(self.old.signatures.values()), Counter(self.signatures.values())
        crowded = {number for number, keys in self.signatures.items() if needed[keys] > there[keys]}
        places = {place for number, place in enumerate(self.stand_for) if self._find(number) in crowded}
        return (self.faults | places) - {NOWHERE}


def _on_meta(traced: fx.GraphModule, shape: Sequence[int]) -> dict[Node, Any]:
    """What each node gives, as tensors without numbers."""
    if len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise BadInput(f"example_shape={tuple(shape)!r}: give one image's shape without the batch, as in (3, 224, 224)")
    if prod(shape) > LARGEST:
        raise BadInput(f"example_shape={tuple(shape)} has more than {LARGEST:,} values; a smaller image shows as much")
    floats = [tensor.dtype for tensor in traced.parameters() if tensor.is_floating_point()]
    image = torch.empty((1, *shape), dtype=floats[0] if floats else None, device="meta")
    recorder = _Recorder(traced)
    try:
        with torch.no_grad():
            recorder.run(image)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise BadInput(f"the network cannot take an image of shape {tuple(shape)}: {reason}") from error
    return recorder.values


class _Recorder(fx.Interpreter):
    """Executes a network on meta tensors; its own weights are neither read nor copied."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.extra_traceback = False
        self.values: dict[Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return _shell(super().get_attr(target, args, kwargs))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        layer = self.fetch_attr(target)
        if is_pointwise(layer) or isinstance(layer, PER_CHANNEL):  # PyTorch would take 10 ms in Python for the shape
            return next(iter((*args, *kwargs.values())))
        state = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
        return functional_call(layer, {name: _shell(tensor) for name, tensor in state.items()}, args, kwargs)


def _shell(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")
