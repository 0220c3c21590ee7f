"""Denormals: float32 numbers below 1.2e-38, which x86 computes tens of times slower than others.

Engines for phones flush them to zero, so races do too: else it would be the weights that are timed. The switch belongs
to a thread, and threads inherit it from the one that starts them; outside a race it stays as the user has it, because
it changes what training computes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def flushed() -> bool:
    """Whether this thread flushes them now."""
    return not torch.tensor(1e-38).mul(0.1).item()


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Denormals count as zero in this thread, and in those that it starts meanwhile; then, in this one, as before.

    Nothing happens on a CPU without the switch.
    """
    with unchanged_denormals():
        torch.set_flush_denormal(True)
        yield


@contextmanager
def unchanged_denormals() -> Iterator[None]:
    """This thread's switch is afterwards as it was before."""
    before = flushed()
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
