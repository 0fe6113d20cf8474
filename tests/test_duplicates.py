import numpy as np
import pytest

from dermaflux.duplicates import near_pairs, thumbnail_rmse


@pytest.mark.parametrize("bits", [0, 2, 3, 4, 6, 7])
def test_the_search_finds_what_brute_force_finds(bits):
    rng = np.random.default_rng(bits)
    left = rng.integers(0, 2**64, 500, dtype=np.uint64)
    right = left[rng.permutation(500)].copy()
    for k in range(500):
        for bit in rng.choice(64, k % 10, replace=False):
            right[k] ^= np.uint64(1) << np.uint64(bit)
    expected = np.nonzero(np.bitwise_count(left[:, None] ^ right[None]) <= bits)
    found = near_pairs(left, right, bits, chunk=64)
    assert (found[0] == expected[0]).all() and (found[1] == expected[1]).all()


def test_many_equal_hashes_are_all_paired():
    same = np.full(300, 5, np.uint64)
    assert len(near_pairs(same, same, 6, chunk=1000)[0]) == 300 * 300


def test_no_hashes_no_pairs():
    none = np.empty(0, np.uint64)
    assert len(near_pairs(none, np.ones(3, np.uint64), 6)[0]) == len(near_pairs(np.ones(3, np.uint64), none, 6)[0]) == 0


def test_distances_that_the_search_cannot_promise_are_refused():
    with pytest.raises(ValueError, match="0 to 7"):
        near_pairs(np.ones(1, np.uint64), np.ones(1, np.uint64), 8)


def test_the_difference_of_thumbnails_is_a_share_of_the_range():
    black, white = np.zeros((1, 256), np.uint8), np.full((1, 256), 255, np.uint8)
    assert thumbnail_rmse(black, white) == 1 and thumbnail_rmse(white, white) == 0
