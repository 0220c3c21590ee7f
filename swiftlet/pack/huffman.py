"""What Huffman's code takes, which Deep Compression uses: for comparison, because the container's coder takes less.

Han, Mao, Dally 2016, arXiv:1510.00149, section 4. A Huffman code spends whole bits on a symbol, at least one, so on
the weights and gaps of a pruned network it loses what docs/pack.md measures.
"""

import heapq

import numpy as np
import numpy.typing as npt


def huffman_bits(counts: npt.ArrayLike) -> int:
    """Bits of all symbols under an optimal prefix code for their counts, without its table.

    Each merge of the two rarest sets adds a bit to all their symbols; a single symbol still takes a bit each time.
    """
    heap = [int(count) for count in np.ravel(counts) if count > 0]
    if len(heap) == 1:
        return heap[0]
    heapq.heapify(heap)
    bits = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        bits += merged
        heapq.heappush(heap, merged)
    return bits
