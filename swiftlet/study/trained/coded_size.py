"""The bytes of sparse, shared weights as Deep Compression stores them: gaps and codes, Huffman-coded.

Han, Mao, Dally 2016, arXiv:1510.00149, sections 2 to 4. Bits are counted, not written: for the paper's columns, and to
compare the container's coder with (swiftlet/pack).
"""

from dataclasses import dataclass
from math import ceil, log2
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swiftlet.pack.huffman import huffman_bits

INDEX_BITS = range(2, 13)  # tried for each tensor; a longer gap takes several entries
LENGTH_BITS = 5  # of one code length in the table that goes with a Huffman code
HEADER_BYTES = 16  # of a tensor beside its name and shape: the counts and choices that a reader needs
Integers = npt.NDArray[np.int64]
Form = Literal["pruned", "shared", "coded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedSize:
    """One tensor. code_bits to huffman_index_bits: per entry, which is a weight that is not zero or the filler of a gap
    that is too long.

    Bits of the whole tensor. pruned: floats and gaps of fixed length; shared: codes in place of the floats, and the
    codebook; coded: codes and gaps Huffman-coded, the codebook, and the tables of code lengths; entropy: what an ideal
    coder takes for places and codes, and the codebook.
    """

    weights: int
    nonzero: int
    entries: int
    values: int
    code_bits: int
    huffman_code_bits: float
    index_bits: int
    huffman_index_bits: float
    pruned: int
    shared: int
    coded: int
    entropy: float


def coded_size(tensor: npt.NDArray[Any], form: Form = "coded") -> CodedSize:
    """Of a float32 tensor in row-major order, with the bits per gap that make this form the smallest."""
    flat = tensor.ravel()
    places = np.flatnonzero(flat)
    values, codes = np.unique(flat[places], return_inverse=True)
    gaps = np.diff(places, prepend=-1) - 1
    tries = [_with_index_bits(flat.size, len(values), codes, gaps, bits) for bits in INDEX_BITS]
    return min(tries, key=lambda size: int(getattr(size, form)))


def file_bytes(tensors: dict[str, npt.NDArray[Any]], form: Form = "coded") -> int:
    """All tensors by name, each in this form or as plain floats, whichever is less, with names, shapes and headers."""
    total = 0
    for name, tensor in tensors.items():
        bits = min(getattr(coded_size(tensor, form), form), 32 * tensor.size)
        total += ceil(bits / 8) + len(name.encode()) + 4 * tensor.ndim + HEADER_BYTES
    return total


def _with_index_bits(weights: int, values: int, codes: Integers, gaps: Integers, bits: int) -> CodedSize:
    longest = 2**bits - 1  # zeros that one entry can pass over; as a filler it is a zero itself
    fillers = gaps // (longest + 1)
    entries = len(gaps) + int(fillers.sum())
    of_codes = np.append(np.bincount(codes, minlength=values), fillers.sum())
    of_gaps = np.bincount(gaps % (longest + 1), minlength=longest + 1)
    of_gaps[longest] += fillers.sum()
    symbols = values + (fillers.sum() > 0)
    code_bits = ceil(log2(symbols)) if symbols > 1 else 1
    codebook = 32 * values
    huffman = huffman_bits(of_codes), huffman_bits(of_gaps)
    tables = LENGTH_BITS * (values + 1 + longest + 1)
    density = len(gaps) / weights
    places = -weights * sum(p * log2(p) for p in (density, 1 - density) if p > 0)
    return CodedSize(
        weights=weights,
        nonzero=len(gaps),
        entries=entries,
        values=values,
        code_bits=code_bits,
        huffman_code_bits=huffman[0] / max(1, entries),
        index_bits=bits,
        huffman_index_bits=huffman[1] / max(1, entries),
        pruned=entries * (32 + bits),
        shared=entries * (code_bits + bits) + codebook,
        coded=sum(huffman) + codebook + tables,
        entropy=places + _entropy(np.bincount(codes, minlength=values)) + codebook,
    )


def _entropy(counts: Integers) -> float:
    present = counts[counts > 0]
    return float((present * np.log2(present.sum() / present)).sum())
