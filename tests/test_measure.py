import numpy as np
import pytest

from dermaflux.captions import describe
from dermaflux.measure import Attributes, measure_lesion, segment

SKIN, BROWN, BLACK = (225, 180, 150), (80, 45, 30), (20, 15, 15)


def lesion(radius, side=128, color=BROWN):
    """A lesion whose radius (share of the half side) is a function of the angle."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    inside = np.hypot(x, y) < radius(np.arctan2(y, x)) * side / 2
    return np.where(inside[..., None], color, SKIN).astype(np.uint8)


def disk(angle):
    return 0.5 + 0 * angle


def star(angle):
    return 0.5 + 0.18 * np.cos(9 * angle)


def lopsided(angle):
    return 0.4 + 0.4 * np.exp(-10 * (angle - 0.3) ** 2) + 0.25 * np.exp(-10 * (angle + 2) ** 2)


def test_the_mask_is_the_lesion():
    truth = (lesion(disk) == BROWN).all(axis=2)
    found = segment(lesion(disk))
    assert (found & truth).sum() / (found | truth).sum() > 0.93


def test_a_disk_is_symmetrical_and_smooth_of_one_colour():
    measured = measure_lesion(lesion(disk))
    assert measured.asymmetry < 0.05 and measured.border < 0.02
    assert measured.colors == ("dark brown",)
    assert measured.area == pytest.approx(np.pi / 16, rel=0.08)


def test_a_star_has_a_more_irregular_border_and_a_lopsided_lesion_is_more_asymmetrical():
    assert measure_lesion(lesion(star)).border > 0.1
    assert measure_lesion(lesion(lopsided)).asymmetry > 0.15


def test_two_colours_are_both_named_largest_first():
    picture = lesion(disk)
    picture[:45][(picture[:45] == BROWN).all(axis=2)] = BLACK
    assert measure_lesion(picture).colors == ("dark brown", "black")


def test_an_image_of_one_colour_is_measured_all_the_same():
    assert measure_lesion(np.full((64, 64, 3), 128, np.uint8)).area > 0


def test_measures_are_put_into_words():
    words = describe(Attributes(0.4, 0.3, ("dark brown", "black", "red"), 15.0, 0.3))
    assert words["description"] == (
        "The mole in the image is asymmetrical. Its border is irregular and jagged. "
        "The color is varied, primarily dark brown, black and red."
    )
