"""Near duplicates: the search against brute force, and copies of painted and real lesions."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from conftest import ROOT
from dermaflux.duplicates import CROPS, SQUARE, Pictures, View, near_duplicates, near_pairs, view_hashes
from dermaflux.images import phash, small_grey
from dermaflux.painter import lesion_parameters, paint

REAL = ROOT.parent / "shared" / "data" / "real"
BITS, RMSE = 6, 0.03  # as in config.yaml


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


# Copies


def pictures_of(images):
    """Pictures of Pillow images."""
    greys = [small_grey(np.asarray(image.convert("RGB"))) for image in images]
    hashes = np.array([phash(grey) for grey in greys], np.uint64)
    aspect = np.array([image.width / image.height for image in images])
    return Pictures(hashes, aspect, np.stack(greys), np.arange(len(images)))


def painted(count, size=(300, 225)):
    return [
        Image.fromarray(paint(lesion_parameters(("benign", "malignant")[i % 2], "near", i), *size))
        for i in range(count)
    ]


def saved(image, quality=80):
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=quality)
    return Image.open(out)


def cropped(image, share, x=0.5, y=0.5):
    """The part of the image that is left when `share` of both sides is cut off."""
    width, height = round(image.width * (1 - share)), round(image.height * (1 - share))
    left, top = round((image.width - width) * x), round((image.height - height) * y)
    return image.crop((left, top, left + width, top + height))


# how a copy comes about, and whether it is looked for among training images, too (crops only beside the test set)
COPIES = {
    "saved again": (lambda image: saved(image, 50), True),
    "resized": (lambda image: saved(image.resize((image.width // 2, image.height // 2))), True),
    "squashed to a square": (lambda image: saved(image.resize((224, 224), Image.Resampling.BICUBIC)), True),
    "squashed without filter": (lambda image: saved(image.resize((300, 300), Image.Resampling.NEAREST)), True),
    "cut to its central square": (lambda image: saved(ImageOps.fit(image, (224, 224))), True),
    "cropped by 2 %": (lambda image: saved(cropped(image, 0.02)), True),
    "cropped by 5 %": (lambda image: saved(cropped(image, 0.05)), False),
    "cropped by 5 % in a corner": (lambda image: saved(cropped(image, 0.05, 0, 0)), False),
    "cropped by 10 %": (lambda image: saved(cropped(image, 0.10)), False),
    "cut to a square and cropped": (lambda image: saved(cropped(ImageOps.fit(image, (300, 300)), 0.05)), False),
}


def found_copies(originals, copy, crops):
    """Share of copies that are found, looked for from either side."""
    left, right = pictures_of(originals), pictures_of([copy(image) for image in originals])
    pairs = set(zip(*near_duplicates(left, right, BITS, RMSE, crops)))
    assert pairs == {(i, j) for j, i in zip(*near_duplicates(right, left, BITS, RMSE, crops))}
    return np.mean([(i, i) in pairs for i in range(len(originals))])


@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_painted_lesions_are_found(kind):
    copy, without_crops = COPIES[kind]
    originals = painted(20)
    assert found_copies(originals, copy, crops=True) == 1
    if without_crops:
        assert found_copies(originals, copy, crops=False) >= 0.95


@pytest.mark.skipif(not REAL.exists(), reason="the real images may not be committed")
@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_real_lesions_are_found(kind):
    originals = [Image.open(path) for path in sorted(REAL.glob("*/images/*"))]
    assert len(originals) > 80
    assert found_copies(originals, COPIES[kind][0], crops=True) >= 0.98


@pytest.mark.skipif(not REAL.exists(), reason="the real images may not be committed")
def test_different_real_lesions_are_not_taken_for_copies():
    pictures = pictures_of([Image.open(path) for path in sorted(Path(REAL).glob("*/images/*"))])
    assert len(near_duplicates(pictures, pictures, BITS, RMSE, crops=True)[0]) == 0  # and none of itself


def test_the_hash_of_a_view_is_that_of_the_picture_cut_out():
    originals = painted(10, (400, 200))
    rows, hashes = view_hashes(pictures_of(originals), SQUARE)
    cut = pictures_of([ImageOps.fit(image, (200, 200)) for image in originals])
    assert list(rows) == list(range(10))
    assert np.bitwise_count(hashes ^ cut.phash).max() <= 4


def test_a_square_picture_has_no_view_of_its_square():
    pictures = pictures_of(painted(2, (200, 200)))
    assert [len(view_hashes(pictures, view)[0]) for view in (SQUARE, View(False, 0.9))] == [0, 2]
    assert all(len(view_hashes(pictures, view)[0]) == 2 * (not view.square) for view in CROPS)


def test_pixels_decide_where_hashes_are_equal():
    def grey(value):
        flat = np.full((1, 32, 32), value, np.uint8)
        return Pictures(np.array([7], np.uint64), np.ones(1), flat, np.zeros(1, np.int64))

    for value, pairs in ((103, 1), (120, 0)):
        assert len(near_duplicates(grey(100), grey(value), BITS, RMSE, crops=False)[0]) == pairs


def test_nothing_is_a_copy_of_nothing():
    one = pictures_of(painted(1))
    none = one.take(np.zeros(1, bool))
    assert [len(near_duplicates(*pair, BITS, RMSE, crops=True)[0]) for pair in ((one, none), (none, one))] == [0, 0]
