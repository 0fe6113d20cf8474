"""Painted lesions: the same from the same key, and told apart by their labels, though not perfectly."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from dermaflux.painter import lesion_parameters, paint


def small_pictures(separation, count=500):
    labels = [index % 2 for index in range(count)]
    names = ("benign", "malignant")
    pictures = [
        paint(lesion_parameters(names[label], "auc", index, separation=separation), 32, 32)
        for index, label in enumerate(labels)
    ]
    return np.array(pictures, np.float32).reshape(count, -1) / 255, np.array(labels)


def auc(separation):
    pictures, labels = small_pictures(separation)
    return roc_auc_score(labels, cross_val_predict(Ridge(alpha=300), pictures, labels, cv=5))


def test_the_same_key_paints_the_same_picture():
    left, right = (paint(lesion_parameters("benign", 7, "hiba", 3), 90, 70) for _ in range(2))
    assert left.dtype == np.uint8
    assert left.shape == (70, 90, 3)
    assert np.array_equal(left, right)


def test_another_key_paints_another_picture():
    left, right = (paint(lesion_parameters("benign", 7, "hiba", index), 64, 64) for index in (3, 4))
    assert np.abs(left.astype(int) - right).mean() > 5


def test_labels_can_be_told_apart_but_not_perfectly():
    assert 0.8 < auc(2.4) < 0.95


def test_without_separation_nothing_tells_labels_apart():
    assert 0.4 < auc(0.0) < 0.6


def test_malignant_lesions_are_more_irregular_and_more_colourful_on_average():
    means = {}
    for label in ("benign", "malignant"):
        lesions = [lesion_parameters(label, "mean", index) for index in range(200)]
        means[label] = [np.mean([getattr(lesion, name) for lesion in lesions]) for name in ("asymmetry", "border")]
        means[label].append(np.mean([len(lesion.colours) for lesion in lesions]))
    assert all(more > less + 0.3 for more, less in zip(means["malignant"], means["benign"], strict=True))


@pytest.mark.parametrize("size", [(16, 16), (40, 200), (200, 40)])
def test_any_shape_can_be_painted(size):
    assert paint(lesion_parameters("malignant", 1), *size).shape == (size[1], size[0], 3)
