"""What lies behind each tensor on its way through a network: the receptive field, and how many layers.

Both counters walk their operations in the order of execution and tell a Flow what each reads and writes, and how its
outputs look at its inputs: one at a time, through a window, or all at once.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Field:
    """The part of the input that one element of a tensor depends on, per spatial dimension.

    size: extent in input pixels, over the edge where a layer pads; stride: input pixels from one element to the next,
    a fraction after upsampling beyond the input's side. Behind upsampling neighbours see now more, now less; size is
    then about their mean. `whole`: it depends on everything, and size is the input's. A tensor that depends on
    constants alone has size 0.
    """

    size: tuple[int, ...]
    stride: tuple[float, ...]
    whole: bool = False

    def __str__(self) -> str:
        return "all" if self.whole else "x".join(map(str, self.size))


class Window(NamedTuple):
    """How one output element looks at an input. reach: how far its first and its last tap are apart, in elements;
    stride: elements of the input that it moves on by. No dimensions: output i sees input i alone."""

    reach: tuple[int, ...] = ()
    stride: tuple[float, ...] = ()
    whole: bool = False


SAME, WHOLE = Window(), Window(whole=True)


def window(kernel: Sequence[int], stride: Sequence[int] = (), dilation: Sequence[int] = ()) -> Window:
    """Convolution or pooling; what is left out is 1, a single number goes for all dimensions."""
    steps, gaps = _each(stride, kernel), _each(dilation, kernel)
    return Window(tuple([d * (k - 1) for k, d in zip(kernel, gaps, strict=True)]), steps)


def transposed_window(kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int] = ()) -> Window:
    """Transposed convolution: an output element meets every input whose spread kernel covers it."""
    steps, gaps = _each(stride, kernel), _each(dilation, kernel)
    reach = (ceil((d * (k - 1) + 1) / s) - 1 for k, s, d in zip(kernel, steps, gaps, strict=True))
    return Window(tuple(reach), tuple(1 / s for s in steps))


def resizing(before: Sequence[int], after: Sequence[int], taps: int) -> Window:
    """Resizing that reads so many neighbours; with taps 0, adaptive pooling or antialiasing, which read all between."""
    if not taps and prod(after) == 1:
        return WHOLE
    pairs = list(zip(before, after, strict=True))
    reach = tuple((taps or ceil(a / b) + (a % b > 0)) - 1 for a, b in pairs)
    return Window(reach, tuple(a / b for a, b in pairs))


def _each(values: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
    values = tuple(values) or (1,)
    return values * len(kernel) if len(values) == 1 else values


class _State(NamedTuple):
    """What is known of a tensor: its field, how many places its map has, how many layers lie behind it."""

    field: Field
    places: int
    depth: int


class Flow:
    """Follows receptive fields and depth from the inputs, given as buffer -> shape with the batch."""

    def __init__(self, inputs: Mapping[Hashable, Sequence[int]]) -> None:
        sides = {key: _spatial(shape) for key, shape in inputs.items()}
        self._side = max(sides.values(), key=len, default=())
        ones = (1,) * len(self._side)
        self._constant = _State(Field((0,) * len(ones), (0,) * len(ones)), 1, 0)
        self._states: dict[Hashable, _State] = {
            key: _State(Field(ones, ones, whole=not ones), prod(side), 0) for key, side in sides.items()
        }
        self._levels: Counter[int] = Counter()

    @property
    def depth(self) -> int:
        """Multiplying operations on the longest path."""
        return max(self._levels, default=0)

    @property
    def branches(self) -> int:
        """The most multiplying operations that lie equally deep: what could run side by side."""
        return max(self._levels.values(), default=0)

    def step(
        self, reads: Sequence[Hashable], writes: Sequence[Hashable], look: Window, shape: Sequence[int], *, deep: bool
    ) -> Field:
        """Follow one operation whose (first) output has this shape; `deep` if it multiplies. Returns its field.

        What depends on constants alone is a constant.
        """
        states = [self._states[key] for key in reads if key in self._states]
        field, places, depth = _merged(states) if states else self._constant
        rank = len(self._side)
        if look.whole and states:
            field = Field(self._side, field.stride, whole=True)
        elif 0 < rank <= len(look.reach) and states:  # PyTorch pools a row as a map of height 1, channels as a depth
            field = _through(field, look.reach[-rank:], look.stride[-rank:])
            places = prod(shape[-rank:])
        if deep:
            depth += 1
            self._levels[depth] += 1
        if states:
            self._states.update(dict.fromkeys(writes, _State(field, places, depth)))
        return field

    def product(self, reads: Sequence[Hashable], shape: Sequence[int]) -> Window:
        """How a matrix product looks: a row for each place of the map is a 1x1 convolution, anything else sees all."""
        images = [self._states[key] for key in reads if key in self._states]
        return SAME if len(images) == 1 and prod(shape[:-1]) == images[0].places else WHOLE


def _through(field: Field, reach: Sequence[int], steps: Sequence[float]) -> Field:
    """The field behind a window; what sees everything goes on to, at a growing stride."""
    size = [ceil(n + far * jump) for n, jump, far in zip(field.size, field.stride, reach, strict=True)]
    stride = [_tidy(jump * step) for jump, step in zip(field.stride, steps, strict=True)]
    return Field(field.size if field.whole else tuple(size), tuple(stride), field.whole)


def _merged(states: list[_State]) -> _State:
    """What several branches see together: as much as the one that sees most."""
    first = states[0]
    if len(states) == 1:
        return first
    places, depth = max(state.places for state in states), max(state.depth for state in states)
    fields = [state.field for state in states]
    if all(field == first.field for field in fields):
        return _State(first.field, places, depth)
    stride = tuple(map(max, zip(*(field.stride for field in fields), strict=True)))
    size = tuple(map(max, zip(*(field.size for field in fields), strict=True)))
    whole = next((field for field in fields if field.whole), None)
    return _State(Field(whole.size if whole else size, stride, whole is not None), places, depth)


def _spatial(shape: Sequence[int]) -> tuple[int, ...]:
    """Sides of an image: all but the batch and the channels, which come first or, where that is smaller, last."""
    return tuple(shape[1:-1] if len(shape) > 3 and shape[-1] < shape[1] else shape[2:])


def _tidy(stride: float) -> float:
    return int(stride) if stride == int(stride) else stride
