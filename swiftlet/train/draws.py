"""Randomness that is a function of what it is for: (seed, epoch, picture), never of the order of the calls.

So the batch, the number of workers, of processes and of interruptions cannot matter.
"""

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
ROUNDS = 8  # of the Feistel network; four give a strong permutation of a pseudorandom function, ours is a weaker one


def keys(seed: int, epoch: int, items: npt.NDArray[np.integer]) -> Keys:
    """(N,) uint64: one key for each item in this epoch."""
    return _mixed(_mixed(_mixed(np.uint64(seed & (2**64 - 1))) ^ np.uint64(epoch)) ^ items.astype(np.uint64))


def uniforms(of: Keys, count: int, *, stream: int = 0) -> npt.NDArray[np.float32]:
    """(N, count) float32 in [0, 1), for each key `count` of them. Other streams of the same keys are independent."""
    numbers = np.arange(count, dtype=np.uint64) + (np.uint64(stream) << np.uint64(32))
    bits = _mixed(of[:, None] ^ _mixed(numbers)[None])
    return ((bits >> np.uint64(40)).astype(np.float32)) * np.float32(2**-24)


def shuffled(positions: npt.NDArray[np.integer], n: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Where `positions` of 0..n-1 go in this epoch's order: a permutation that needs no memory, however large n is.

    A Feistel network over the smallest even number of bits that holds n; what falls outside is sent through again.
    """
    half = np.uint64(max(1, (max(1, n - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    subkeys = _subkeys(seed, epoch)
    found = positions.astype(np.uint64)
    outside = np.ones(len(found), bool)
    while outside.any():
        left, right = found[outside] >> half, found[outside] & low
        for subkey in subkeys:
            left, right = right, left ^ (_mixed(right ^ subkey) & low)
        found[outside] = (left << half) | right
        outside = found >= np.uint64(n)
    return found.astype(np.int64)


def _subkeys(seed: int, epoch: int) -> Keys:
    """(ROUNDS,) uint64, of numbers that no picture has."""
    return keys(seed, epoch, np.arange(ROUNDS) - ROUNDS)


def _mixed(x: Keys | np.uint64) -> Keys:
    """splitmix64's output function, after its increment."""
    with np.errstate(over="ignore"):
        x = np.asarray(x, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
