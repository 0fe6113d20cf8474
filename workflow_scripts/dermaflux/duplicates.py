"""Near duplicates among hundreds of thousands of pictures: by perceptual hashes, confirmed on small grey pictures.

A copy may have been resized, saved again, squashed to a square, cut to its central square, or cropped a little at its
edges. Squashing is undone by comparing pictures that are squashed themselves (32 x 32); for the others each picture is
also looked at in part: a view. Views are linear maps of the 32 x 32 picture, so that no image is decoded again.
"""

from typing import NamedTuple

import numpy as np

from dermaflux.images import DCT, THUMBNAIL_SIDE

BANDS = 4
BAND_BITS = 16
SHARE_STEPS = 64  # the central square is found to this fraction of the longer side
CONFIRM_CHUNK = 1 << 14  # pairs whose pixels are compared at once


class Pictures(NamedTuple):
    """What near duplicates are found by.

    phash: uint64 [n], of the whole picture. aspect: float64 [n], width / height of the source.
    thumbnails: uint8 [m, 32, 32], whole pictures squashed, grey; rows: int64 [n], which of them are these pictures'.
    """

    phash: np.ndarray
    aspect: np.ndarray
    thumbnails: np.ndarray  # shared, not copied: half a gigabyte for the whole corpus
    rows: np.ndarray

    def take(self, which):
        """The pictures `which` (bool or int array)."""
        return Pictures(self.phash[which], self.aspect[which], self.thumbnails, self.rows[which])

    def pixels(self):
        """float32 [n, 32, 32]."""
        return self.thumbnails[self.rows].astype(np.float32)


class View(NamedTuple):
    """A part of a picture: of the whole of it or of its central square, `share` of both sides, at (x, y) in 0 to 1."""

    square: bool
    share: float
    x: float = 0.5
    y: float = 0.5


SQUARE = View(True, 1.0)
# crops of up to about a tenth of each side: hashes bear 2 or 3 % of misfit
CROPS = [View(False, 0.95, x, y) for x, y in ((0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1))]
CROPS += [View(False, 0.9), View(True, 0.95)]


def near_pairs(left, right, bits, chunk=1 << 20):
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
        # both in the order of the band: what is compared then lies side by side in memory
        keys, order = _sorted_band(right, band)
        mine, my_order = _sorted_band(left, band)
        edges = np.searchsorted(keys, np.arange((1 << BAND_BITS) + 1))
        for flip in flips:
            wanted = mine ^ np.uint16(flip)
            start, end = edges[wanted], edges[wanted.astype(np.int64) + 1]
            for i, j in _matches(left[my_order], right[order], start, end, bits, chunk):
                found.append(my_order[i] * max(len(right), 1) + order[j])
    pairs = np.unique(np.concatenate(found))
    return pairs // max(len(right), 1), pairs % max(len(right), 1)


def _sorted_band(hashes, band):
    """(the band's values in ascending order: uint16 [n], which hashes they are of: int64 [n])."""
    keys = (hashes >> np.uint64(BAND_BITS * band)).astype(np.uint16)
    order = np.argsort(keys, kind="stable")
    return keys[order], order


def _matches(left, right, start, end, bits, chunk):
    """Yield (i, j) of the pairs left[i], right[start[i]:end[i]] that are near enough, some at a time."""
    counts = end - start
    total = np.cumsum(counts)
    first = 0
    while first < len(left):
        # as many rows as fit into a chunk, at least one
        base = total[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(total, base + chunk, side="right")))
        some = counts[first:last]
        # j runs from start to end of each row: the row's offset plus a running number
        offset = start[first:last] - (total[first:last] - some - base)
        j = np.repeat(offset.astype(np.int32), some)
        j += np.arange(len(j), dtype=np.int32)
        differ = np.repeat(left[first:last], some)
        differ ^= right[j]
        near = np.flatnonzero(np.bitwise_count(differ) <= bits)
        if len(near):
            yield first + np.searchsorted(total[first:last] - base, near, side="right"), j[near]
        first = last


def _axis(low, high):
    """The matrix [32, 32] that spreads the part low to high (0 to 1) of 32 values over 32 values, by averaging."""
    edges = (low + (high - low) * np.linspace(0, 1, THUMBNAIL_SIDE + 1)) * THUMBNAIL_SIDE
    cells = np.arange(THUMBNAIL_SIDE)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return (np.clip(overlap, 0, None) / (high - low)).astype(np.float32)


def _view_axes(view, aspect):
    """Yield (rows, vertical [32, 32], horizontal [32, 32]): the maps of `view` for pictures of `aspect` (float [n]).

    Pictures that are square already have no view of their central square, and are left out.
    """
    if not view.square:
        yield np.arange(len(aspect)), *_maps(view, 1.0, 1.0)
        return
    steps = np.round(np.minimum(aspect, 1 / aspect) * SHARE_STEPS).astype(int)
    for step in np.unique(steps[steps < SHARE_STEPS]):
        for wide in (True, False):
            rows = np.flatnonzero((steps == step) & ((aspect > 1) == wide))
            if len(rows):
                kept = step / SHARE_STEPS
                yield rows, *_maps(view, kept if wide else 1.0, 1.0 if wide else kept)


def _maps(view, width, height):
    def side(whole, at):
        share = whole * view.share
        low = (1 - whole) / 2 + (whole - share) * at
        return _axis(low, low + share)

    return side(height, view.y), side(width, view.x)


def view_hashes(pictures, view):
    """Perceptual hashes of a view, as images.phash gives them for whole pictures.

    Returns:
        (rows, hashes): int64 [k], the pictures that have such a view; uint64 [k].
    """
    rows, hashes = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for which, vertical, horizontal in _view_axes(view, pictures.aspect):
        for some in np.array_split(which, max(1, len(which) >> 15)):
            low = (DCT @ vertical) @ pictures.take(some).pixels() @ (DCT @ horizontal).T
            low = low.reshape(len(some), 64)
            bits = low > np.partition(low, (31, 32), axis=1)[:, 31:33].mean(axis=1, keepdims=True)
            rows.append(some)
            hashes.append(np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64))
    return np.concatenate(rows), np.concatenate(hashes)


def _halved(pictures):
    """float32 [n, 32, 32] as [n, 256]: 2 x 2 averages, which forgive what a view's interpolation blurs."""
    half = THUMBNAIL_SIDE // 2
    return pictures.reshape(-1, half, 2, half, 2).mean(axis=(2, 4)).reshape(-1, half * half)


def _rmse(whole, part, view):
    """Root mean square difference (0 to 1) between the view of pictures `whole` and the pictures `part`: float [n]."""
    seen = whole.pixels()
    if view is not None:
        for rows, vertical, horizontal in _view_axes(view, whole.aspect):
            seen[rows] = vertical @ seen[rows] @ horizontal.T
    difference = _halved(seen) - _halved(part.pixels())
    return np.sqrt((difference**2).mean(axis=1)) / 255


def _copies(whole, part, view, bits, rmse):
    """Pairs (i, j) where part[j] shows the `view` (None: everything) of whole[i]."""
    if view is None:
        i, j = near_pairs(whole.phash, part.phash, bits)
    else:
        rows, hashes = view_hashes(whole, view)
        i, j = near_pairs(hashes, part.phash, bits)
        i = rows[i]
    if whole.thumbnails is part.thumbnails:  # a picture is no copy of itself
        others = whole.rows[i] != part.rows[j]
        i, j = i[others], j[others]
    close = [np.empty(0, bool)]
    for first in range(0, len(i), CONFIRM_CHUNK):
        some = slice(first, first + CONFIRM_CHUNK)
        close.append(_rmse(whole.take(i[some]), part.take(j[some]), view) <= rmse)
    close = np.concatenate(close)
    return i[close], j[close]


def near_duplicates(left, right, bits, rmse, crops):
    """All pairs of pictures of which one is a near copy of the other.

    Args:
        left, right: Pictures.
        bits: hashes that differ in at most so many bits (0 to 7) make a candidate ...
        rmse: ... which counts where the grey pictures (0 to 1) differ by at most this.
        crops: whether small crops are looked for, too; central squares always are.

    Returns:
        (i, j): int64 [k] each, indices into left and right, sorted by i, then j, without repeats; where both share their
        thumbnails, no picture is paired with itself.
    """
    found = [_copies(left, right, None, bits, rmse)]
    for view in [SQUARE, *(CROPS if crops else [])]:
        found.append(_copies(left, right, view, bits, rmse))
        found.append(_copies(right, left, view, bits, rmse)[::-1])
    pairs = np.unique(np.concatenate([i * max(len(right.phash), 1) + j for i, j in found]))
    return pairs // max(len(right.phash), 1), pairs % max(len(right.phash), 1)
