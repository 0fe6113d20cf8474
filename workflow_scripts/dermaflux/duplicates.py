"""Near duplicates among millions of 64-bit perceptual hashes, exactly, in numpy."""

import numpy as np

BANDS = 4
BAND_BITS = 16


def _band(hashes, band):
    return (hashes >> np.uint64(BAND_BITS * band)).astype(np.uint16)


def near_pairs(left, right, bits, chunk=1 << 22):
    """All pairs whose hashes differ in at most `bits` bits.

    Multi-index hashing (Norouzi et al. 2012): if two hashes differ in at most 7 bits, then in one of their four 16-bit
    bands they differ in at most one. Each band is looked up as it is and, for bits > 3, with each single bit flipped.

    Args:
        left, right: uint64 [n], uint64 [m].
        bits: int, 0 to 7.
        chunk: candidate pairs held at once.

    Returns:
        (i, j): int64 [k] each, indices into left and right, sorted by i, then j, without repeats.

    Raises:
        ValueError: `bits` is out of range.
    """
    if not 0 <= bits < 2 * BANDS:
        raise ValueError(f"bits must be 0 to {2 * BANDS - 1}, not {bits}")
    flips = [0] + ([1 << b for b in range(BAND_BITS)] if bits >= BANDS else [])
    found = [np.empty(0, np.int64)]
    for band in range(BANDS):
        keys = _band(right, band)
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange(1 << BAND_BITS))
        ends = np.append(starts[1:], len(keys))
        for flip in flips:
            wanted = _band(left, band) ^ np.uint16(flip)
            found += _matches(left, right, order, starts[wanted], ends[wanted], bits, chunk)
    pairs = np.unique(np.concatenate(found))
    return pairs // max(len(right), 1), pairs % max(len(right), 1)


def _matches(left, right, order, start, end, bits, chunk):
    """Pairs i * len(right) + j within order[start[i]:end[i]] that are near enough; a list of int64 arrays."""
    counts = end - start
    found = []
    total = np.cumsum(counts)
    first = 0
    while first < len(left):
        # as many rows as fit into a chunk, at least one
        base = total[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(total, base + chunk, side="right")))
        some = counts[first:last]
        i = np.repeat(np.arange(first, last), some)
        offset = np.arange(len(i)) - np.repeat(np.cumsum(some) - some, some)
        j = order[np.repeat(start[first:last], some) + offset]
        near = np.bitwise_count(left[i] ^ right[j]) <= bits
        found.append(i[near] * len(right) + j[near])
        first = last
    return found


def thumbnail_rmse(left, right):
    """Root mean square difference of thumbnails, in 0 to 1.

    Args:
        left, right: uint8 [k, n] grey values.

    Returns:
        float64 [k].
    """
    difference = left.astype(np.float64) - right.astype(np.float64)
    return np.sqrt((difference**2).mean(axis=1)) / 255
