import pytest

from dermaflux.ranks import ALONE, Ranks


@pytest.mark.parametrize(("rows", "size"), [(16, 1), (16, 2), (5, 2), (2, 3), (1, 8)])
def test_every_row_of_a_batch_is_taken_by_one_process(rows, size):
    taken = [list(range(rows))[Ranks(rank, size).own(rows)] for rank in range(size)]
    assert sum(taken, []) == list(range(rows))
    assert max(map(len, taken)) - min(map(len, taken)) <= 1


def test_alone_there_is_nobody_to_ask():
    ALONE.require_same("value", "values")
    ALONE.sum([None])
    assert ALONE.first and ALONE.own(4) == slice(0, 4)
