import numpy as np
import pandas as pd
import pytest

from dermaflux.manifest import decide_rows, load_rows
from dermaflux.tables import IMAGES, INDEX, write_table

RNG = np.random.default_rng(0)
DEFAULTS = {
    "lesion_id": None, "patient_id": None, "split": "train", "drop_reason": None, "label": "benign", "shard": 0,
    "scale": 128, "source_width": 128, "source_height": 128,
}  # fmt: skip


def rows(*specs):
    """all_rows of decide_rows from (dataset, id, overrides); images differ unless overrides say otherwise."""
    made = []
    for dataset, name, changes in specs:
        own = {
            "image_id": f"{dataset}/{name}",
            "dataset": dataset,
            "sha256": f"{dataset}{name}",
            "pixel_sha256": f"p{dataset}{name}",
            "phash": np.uint64(RNG.integers(0, 2**63)),
            "thumbnail": RNG.integers(0, 256, (32, 32), dtype=np.uint8),
        }
        made.append({**DEFAULTS, **own, **changes})
    return pd.DataFrame(made).astype({"phash": "uint64"})


def decide(all_rows, dataset, test_sets=("test_set",), groups=("lesion",)):
    thumbnails = np.stack(all_rows["thumbnail"])
    decided = decide_rows(dataset, all_rows, thumbnails, list(test_sets), groups, bits=6, rmse=0.03)
    return decided.set_index("image_id")[["use", "exclude_reason", "duplicate_of"]].where(lambda f: f.notna(), None)


TWIN = {"phash": np.uint64(0b1011), "thumbnail": np.full((32, 32), 100, np.uint8)}
NEAR_TWIN = {"phash": np.uint64(0b0111), "thumbnail": np.full((32, 32), 103, np.uint8)}
SAME_HASH_OTHER_PIXELS = {"phash": np.uint64(0b1011), "thumbnail": np.full((32, 32), 200, np.uint8)}


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        ({"sha256": "s"}, {"sha256": "s"}, "duplicate_of_test"),
        ({"pixel_sha256": "s"}, {"pixel_sha256": "s"}, "duplicate_of_test"),
        (NEAR_TWIN, TWIN, "near_duplicate_of_test"),
    ],
)
def test_a_training_image_that_equals_a_test_image_listed_later_is_excluded(train, test, reason):
    found = decide(rows(("a", "1", train), ("test_set", "9", {"split": "test"} | test)), "a")
    assert found.loc["a/1"].tolist() == ["excluded", reason, "test_set/9"]


def test_a_training_image_of_a_test_lesion_is_excluded():
    both = {"lesion_id": "test_set/L"}
    table = rows(("test_set", "1", both), ("test_set", "2", both | {"split": "test"}), ("test_set", "3", {}))
    found = decide(table, "test_set")
    assert found.loc["test_set/1"].tolist() == ["excluded", "lesion_in_test", "test_set/2"]
    assert found.loc["test_set/2", "use"] == "test"
    assert found.loc["test_set/3", "use"] == "train"


def test_a_training_image_of_a_test_patient_is_excluded_where_patients_are_protected():
    both = {"patient_id": "test_set/P"}
    table = rows(("test_set", "1", both), ("test_set", "2", both | {"split": "test"}))
    assert decide(table, "test_set").loc["test_set/1", "use"] == "train"
    found = decide(table, "test_set", groups=("lesion", "patient"))
    assert found.loc["test_set/1"].tolist() == ["excluded", "patient_in_test", "test_set/2"]


def test_the_first_listed_of_two_training_images_is_kept():
    table = rows(("a", "1", TWIN), ("b", "0", NEAR_TWIN), ("b", "1", {"sha256": "s"}), ("b", "2", {"sha256": "s"}))
    assert decide(table, "a").loc["a/1", "use"] == "train"
    found = decide(table, "b")
    assert found.loc["b/0"].tolist() == ["excluded", "near_duplicate", "a/1"]
    assert found.loc["b/1", "use"] == "train"
    assert found.loc["b/2"].tolist() == ["excluded", "duplicate", "b/1"]


def test_images_whose_hashes_are_near_but_pixels_are_not_are_kept():
    assert decide(rows(("a", "1", TWIN), ("b", "1", SAME_HASH_OTHER_PIXELS)), "b").loc["b/1", "use"] == "train"


def test_training_rows_of_a_test_bearing_dataset_that_stands_later_do_not_count():
    table = rows(("a", "1", TWIN), ("test_set", "1", NEAR_TWIN), ("test_set", "2", {"split": "test"}))
    assert decide(table, "a").loc["a/1", "use"] == "train"


def test_a_dataset_added_at_the_end_changes_no_earlier_decision():
    table = rows(("a", "1", TWIN), ("test_set", "1", {}), ("test_set", "2", {"split": "test"}))
    longer = pd.concat([table, rows(("z", "1", NEAR_TWIN))], ignore_index=True)
    for dataset in ("a", "test_set"):
        assert decide(table, dataset).equals(decide(longer, dataset))


def test_test_splits_outside_the_test_set_are_held_out():
    found = decide(rows(("a", "1", {"split": "test"}), ("test_set", "1", {"split": "test"})), "a")
    assert found.loc["a/1"].tolist() == ["excluded", "held_out_split", None]


def test_dropped_rows_keep_their_reason_and_are_nobodys_partner():
    dropped = {"drop_reason": "too_small", "sha256": "s"}
    table = rows(("a", "1", dropped), ("b", "1", {"sha256": "s"}))
    assert decide(table, "a").loc["a/1"].tolist() == ["excluded", "too_small", None]
    assert decide(table, "b").loc["b/1", "use"] == "train"


def test_rows_are_loaded_in_the_order_of_their_ids_with_their_thumbnails(tmp_path):
    pictures = {name: RNG.integers(0, 256, (32, 32), dtype=np.uint8) for name in "ab"}
    images = [
        {"image_id": "d/b", "thumbnail": pictures["b"].tobytes(), "phash": 1, "source_width": 3, "source_height": 2},
        {"image_id": "d/c", "drop_reason": "too_small"},
        {"image_id": "d/a", "thumbnail": pictures["a"].tobytes(), "phash": 2, "source_width": 3, "source_height": 2},
    ]
    write_table(tmp_path / "images.parquet", images, IMAGES)
    index = [{"image_id": row["image_id"], "shard": 0, "patient_id": "P"} for row in images]
    write_table(tmp_path / "index.parquet", index, INDEX)
    found, thumbnails = load_rows([("d", tmp_path / "index.parquet", [tmp_path / "images.parquet"])])
    assert list(found["image_id"]) == ["d/a", "d/b", "d/c"]
    assert list(found["patient_id"]) == ["d/P"] * 3 and found["lesion_id"].isna().all()
    assert (thumbnails[0] == pictures["a"]).all() and (thumbnails[1] == pictures["b"]).all()
    assert not thumbnails[2].any()
