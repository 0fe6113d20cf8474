import pytest

from dermaflux.draws import draw
from dermaflux.errors import UserError

ROWS = [(f"d/{i}", "malignant" if i % 3 == 0 else "benign") for i in range(300)]


def test_a_draw_is_balanced_and_seeded():
    drawn = draw(ROWS, 60, 0, "real")
    labels = [dict(ROWS)[id] for id in drawn]
    assert labels == ["benign"] * 30 + ["malignant"] * 30
    assert drawn == draw(ROWS[::-1], 60, 0, "real") != draw(ROWS, 60, 1, "real")


def test_smaller_draws_lie_within_larger_ones():
    assert set(draw(ROWS, 40, 0, "real")) < set(draw(ROWS, 120, 0, "real"))


def test_too_few_images_of_a_label_are_named_with_the_source():
    with pytest.raises(UserError, match="needs 101 malignant images from real, which has 100"):
        draw(ROWS, 202, 0, "real")


def test_an_odd_number_cannot_be_balanced():
    with pytest.raises(UserError, match="even number"):
        draw(ROWS, 3, 0, "real")
