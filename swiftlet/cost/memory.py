"""The peak of activation memory: what is live at once for one image, in the order of execution.

No allocator can do with less in this order; one that takes and gives back each buffer needs just this, and a planned
arena hardly more (docs/counting.md has both, measured).
A buffer lives from the step that writes it to the last step that reads it. An element-wise step may write over an input
of the same or larger size that dies there, as every runtime does. Views share their source's buffer, so they are
no steps. Weights are not activations.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple


class Step(NamedTuple):
    """One executed operation, by the buffers that it touches. `elementwise`: output i depends on input i alone."""

    reads: tuple[Hashable, ...]
    writes: tuple[Hashable, ...]
    elementwise: bool


def peak_bytes(
    steps: Sequence[Step], sizes: Mapping[Any, int], inputs: Sequence[Hashable], outputs: Sequence[Hashable]
) -> int:
    """Largest sum of live buffers over the steps, in bytes; sizes holds every activation buffer, and nothing else.

    Network inputs live until their last reader, network outputs until the end.
    """
    last = dict.fromkeys(inputs, -1)
    for number, step in enumerate(steps):
        last |= dict.fromkeys(step.writes, number)
        last |= {buffer: number for buffer in step.reads if buffer in sizes}
    last |= dict.fromkeys(outputs, len(steps))

    live = {buffer: sizes[buffer] for buffer in inputs}
    peak = sum(live.values())
    for number, step in enumerate(steps):
        dying = {buffer for buffer in step.reads if buffer in live and last[buffer] == number}
        free = sorted((live[buffer] for buffer in dying), reverse=True) if step.elementwise else []
        needed = sum(live.values())
        for buffer in dict.fromkeys(step.writes):
            if buffer in live:
                continue  # an in-place operation
            live[buffer] = sizes[buffer]
            if free and free[0] >= sizes[buffer]:
                free.pop(0)  # written over the input that dies here
            else:
                needed += sizes[buffer]
        peak = max(peak, needed)
        for buffer in dying | {buffer for buffer in step.writes if last[buffer] == number}:
            live.pop(buffer, None)
    return peak
