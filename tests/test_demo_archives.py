"""Painted archives: in the published layouts, the same on every run, with everything planted that real ones hold."""

import csv
import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dermaflux.archives import open_member
from dermaflux.demo_archives import PAINTERS, paint_archives
from dermaflux.descriptors import load_descriptor
from dermaflux.errors import UserError
from dermaflux.images import prepare_shard
from dermaflux.index import index_dataset
from dermaflux.tables import read_frame

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "data" / "real"
DROPPED = {"too_small", "truncated", "undecodable", "no_image", "no_metadata", "no_label", "ambiguous_label"}
KEPT = {"exif_rotated", "cmyk", "transparent", "16_bit"}
COPIES = {"exact", "same_pixels", "resized"}
PARTS = {"central_square", "cropped"}  # copies that show a part of their original


def prepare(name, folder):
    """A dataset's painted archives through index and preparation: (index, images) as frames."""
    descriptor = load_descriptor(ROOT / "config" / "datasets", name)
    archives = [folder / name / archive.name for archive in descriptor.archives]
    index, images = folder / "index" / f"{name}.parquet", folder / "images" / f"{name}.parquet"
    index_dataset(archives, index, descriptor.index_facts(), "exclude", descriptor.images, False)
    prepare_shard(index, archives, images, 0, 128, [128, 256, 512], 10_000_000, 95)
    return read_frame(index), read_frame(images)


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """(folder, all images as a frame with `dataset`, indexed by image_id; planted, a list of dicts)"""
    import pandas as pd

    folder, frames, planted = tmp_path_factory.mktemp("painted"), [], []
    for name in PAINTERS:
        paint_archives(name, folder / name, 30, seed=7)
        index, images = prepare(name, folder)
        assert len(index) == len(images)
        frames.append(images.assign(dataset=name))
        planted += json.loads((folder / name / "planted.json").read_text())
    return folder, pd.concat(frames).set_index("image_id"), planted


def test_the_descriptors_read_every_painted_dataset(painted):
    counts = painted[1].groupby("dataset").size()
    assert set(counts.index) == set(PAINTERS)
    assert counts.between(30, 31).all()


def test_a_folder_holds_what_its_descriptor_lists_and_no_more(painted):
    for name in PAINTERS:
        descriptor = load_descriptor(ROOT / "config" / "datasets", name)
        expected = {archive.name for archive in descriptor.archives} | {"planted.json"}
        assert {path.name for path in (painted[0] / name).iterdir()} == expected


def test_there_are_enough_images_of_both_labels(painted):
    kept = painted[1][painted[1]["drop_reason"].isna() & (painted[1]["dataset"] != "derm_t2im")]
    counts = kept.groupby(["split", "label"]).size()
    assert counts["train"].min() >= 90
    assert counts["test"].min() >= 12
    assert counts["test"].sum() >= 36
    assert kept.groupby("dataset")["label"].nunique().eq(2).all()


def test_planted_images_are_kept_or_dropped_for_their_reason(painted):
    _, rows, planted = painted
    seen = Counter(plant["kind"] for plant in planted)
    assert set(seen) == DROPPED | KEPT | COPIES | PARTS | {"same_lesion", "listed_duplicate"}
    for plant in planted:
        reasons = rows.loc[plant["image_ids"], "drop_reason"]
        if plant["kind"] in DROPPED:
            assert (reasons == plant["kind"]).all(), plant
        elif plant["kind"] == "listed_duplicate":
            assert reasons.iloc[0] == "listed_duplicate"
        elif plant["kind"] != "same_lesion":
            assert reasons.isna().all(), plant
    expected = {id for plant in planted if plant["kind"] in DROPPED for id in plant["image_ids"]}
    dropped = set(rows.index[rows["drop_reason"].notna() & (rows["drop_reason"] != "listed_duplicate")])
    assert dropped == expected


def test_planted_copies_have_the_hashes_of_their_kind(painted):
    _, rows, planted = painted
    for plant in (plant for plant in planted if plant["kind"] in COPIES):
        copy, original = (rows.loc[id] for id in plant["image_ids"])
        assert copy["label"] == original["label"]
        assert (copy["sha256"] == original["sha256"]) == (plant["kind"] == "exact")
        assert (copy["pixel_sha256"] == original["pixel_sha256"]) == (plant["kind"] != "resized")
        assert (int(copy["phash"]) ^ int(original["phash"])).bit_count() <= 4
        near = [np.frombuffer(row["thumbnail"], np.uint8) / 255 for row in (copy, original)]
        assert np.sqrt(np.mean((near[0] - near[1]) ** 2)) < 0.01


def test_copies_lie_across_datasets_and_across_train_and_test(painted):
    _, rows, planted = painted
    pairs = [rows.loc[plant["image_ids"]] for plant in planted if plant["kind"] in COPIES]
    assert all(pair["dataset"].nunique() == 2 for pair in pairs)
    assert {tuple(pair["split"]) for pair in pairs} == {("train", "train"), ("train", "test"), ("test", "train")}


def test_painting_again_gives_the_same_bytes_and_another_seed_others(painted, tmp_path):
    for seed in (7, 8):
        paint_archives("hiba", tmp_path / str(seed), 30, seed)
    digests = [hashlib.sha256((folder / "hiba-skin-lesions.zip").read_bytes()).digest()
               for folder in (painted[0] / "hiba", tmp_path / "7", tmp_path / "8")]  # fmt: skip
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.skipif(not REAL.exists(), reason="the original tables are not beside the repository")
@pytest.mark.parametrize(
    ("name", "reference", "original"),
    [
        ("isic_2019", "ISIC_2019_Training_GroundTruth.csv", "isic2019/ISIC_2019_Training_GroundTruth.csv"),
        ("isic_2019", "ISIC_2019_Training_Metadata.csv", "isic2019/ISIC_2019_Training_Metadata.csv"),
        ("isic_2020", "ISIC_2020_Training_GroundTruth_v2.csv", "isic2020/ISIC_2020_Training_GroundTruth_v2.csv"),
        ("isic_2020", "ISIC_2020_Training_Duplicates.csv", "isic2020/ISIC_2020_Training_Duplicates.csv"),
        ("milk10k", "MILK10k_Training_GroundTruth.csv", "milk10k/MILK10k_Training_GroundTruth.csv"),
        ("milk10k", "MILK10k_Training_Metadata.csv", "milk10k/MILK10k_Training_Metadata.csv"),
        ("pad_ufes_20", "zr7vgbcyr2-1.zip!zr7vgbcyr2-1/metadata.csv", "pad_ufes_20/metadata.csv"),
        (
            "isic_2024",
            "ISIC_2024_Training_Input.zip!ISIC_2024_Training_Input/metadata.csv",
            "isic2024/test-metadata.csv",
        ),
    ],
)
def test_painted_headers_are_the_published_ones(painted, name, reference, original):
    archive, _, member = reference.partition("!")
    file = open_member(painted[0] / name / archive, member or None)
    header = next(csv.reader(io.TextIOWrapper(file, "utf-8")))
    with open(REAL / original, newline="") as file:
        assert header == next(csv.reader(file))


def test_a_dataset_that_cannot_be_painted_and_too_few_images_are_named(tmp_path):
    with pytest.raises(UserError, match="no archives can be painted for 'ham'"):
        paint_archives("ham", tmp_path, 30, 7)
    with pytest.raises(UserError, match="paint.images: 10 are too few"):
        paint_archives("ddi", tmp_path, 10, 7)
