"""The corpus manifest: every decision across datasets, one slice a dataset.

The test side is protected: a training image that equals, nearly equals, or shares its lesion with a test image is
excluded. Among training images the one listed first is kept: earlier datasets, then the smaller image_id. So a dataset
added at the end decides its own rows and no others.
"""

import numpy as np
import pandas as pd

from dermaflux.duplicates import near_pairs, thumbnail_rmse
from dermaflux.tables import MANIFEST, read_frame, write_table

COLUMNS = ["image_id", "source_width", "source_height", "scale", "sha256", "pixel_sha256", "phash", "thumbnail", "label", "split", "drop_reason"]  # fmt: skip


def load_rows(datasets):
    """Rows of several datasets, in their order, each sorted by image_id, without images.

    Args:
        datasets: list of (name, index path, image shard paths).

    Returns:
        DataFrame with COLUMNS, dataset, shard, lesion_id (null where unknown; otherwise unique across datasets).
    """
    frames = []
    for name, index, images in datasets:
        rows = read_frame(images, COLUMNS)
        rows = rows.merge(read_frame(index, ["image_id", "shard", "lesion_id"]), on="image_id", validate="1:1")
        rows["dataset"] = name
        rows["lesion_id"] = name + "/" + rows["lesion_id"]
        frames.append(rows.sort_values("image_id"))
    return pd.concat(frames, ignore_index=True)


def _first_by(others, column):
    known = others.dropna(subset=[column]).drop_duplicates(column)
    return known.set_index(column)["image_id"]


def _near(rows, others, bits, rmse):
    """For each of `rows` the first of `others` (by position) that is a near duplicate, as a Series by row label."""
    if rows.empty or others.empty:
        return pd.Series(dtype=object)
    i, j = near_pairs(rows["phash"].to_numpy(np.uint64), others["phash"].to_numpy(np.uint64), bits)
    differ = rows["image_id"].to_numpy()[i] != others["image_id"].to_numpy()[j]
    i, j = i[differ], j[differ]
    pixels = [np.frombuffer(b"".join(f["thumbnail"]), np.uint8).reshape(len(f), -1) for f in (rows, others)]
    close = np.array(thumbnail_rmse(pixels[0][i], pixels[1][j]) <= rmse, bool)
    i, j = i[close], j[close]
    first = np.unique(i, return_index=True)[1]  # pairs are sorted: the first of each i has the smallest j
    return pd.Series(others["image_id"].to_numpy()[j[first]], index=rows.index[i[first]])


def _exclude(rows, partners, reason):
    """Mark those rows that are still undecided and have a partner (Series by row label, nulls ignored)."""
    partners = partners.dropna()
    chosen = rows.index.isin(partners.index) & rows["use"].isna()
    rows.loc[chosen, "use"] = "excluded"
    rows.loc[chosen, "exclude_reason"] = reason
    rows.loc[chosen, "duplicate_of"] = partners.reindex(rows.index[chosen])


def decide_rows(dataset, all_rows, test_sets, bits, rmse):
    """The slice of the manifest for `dataset`.

    Args:
        dataset: its name.
        all_rows: DataFrame of `load_rows`: the datasets up to this one in their order, and those with test images.
        test_sets: names of the datasets whose test split is the test set.
        bits, rmse: what a near duplicate is, see the configuration's `manifest`.

    Returns:
        DataFrame with the columns of tables.MANIFEST.
    """
    rows = all_rows[all_rows["dataset"] == dataset].copy()
    for column in ("use", "exclude_reason", "duplicate_of"):
        rows[column] = pd.Series(None, index=rows.index, dtype=object)
    dropped = rows["drop_reason"].notna()
    rows.loc[dropped, "use"], rows.loc[dropped, "exclude_reason"] = "excluded", rows.loc[dropped, "drop_reason"]

    is_test = (rows["split"] == "test") & ~dropped
    in_test_set = dataset in test_sets
    rows.loc[is_test, "use"] = "test" if in_test_set else "excluded"
    if not in_test_set:
        rows.loc[is_test, "exclude_reason"] = "held_out_split"

    kept = all_rows[all_rows["drop_reason"].isna()]
    test = kept[(kept["split"] == "test") & kept["dataset"].isin(test_sets)]
    # up to and including this dataset: where a test-bearing dataset stands later in the list, its training rows do not count
    last = all_rows.index[all_rows["dataset"] == dataset].max() if len(rows) else -1
    train = kept[(kept["split"] == "train") & (kept.index <= last)]
    mine = rows[rows["use"].isna()]

    for column in ("sha256", "pixel_sha256"):
        _exclude(rows, mine[column].map(_first_by(test, column)), "duplicate_of_test")
    _exclude(rows, mine["lesion_id"].map(_first_by(test, "lesion_id")), "lesion_in_test")
    _exclude(rows, _near(mine, test, bits, rmse), "near_duplicate_of_test")
    for column in ("sha256", "pixel_sha256"):
        first = mine[column].map(_first_by(train, column))
        _exclude(rows, first[first != mine["image_id"]], "duplicate")
    _exclude(rows, _earlier_near(mine, train, bits, rmse), "near_duplicate")
    rows.loc[rows["use"].isna(), "use"] = "train"
    return rows[MANIFEST.names]


def _earlier_near(mine, train, bits, rmse):
    """Near duplicates among the training rows that stand before each row (row labels grow in the order of the list)."""
    near = _near(mine, train, bits, rmse)
    position = pd.Series(train.index, index=train["image_id"])
    return near[position.reindex(near).to_numpy() < near.index.to_numpy()] if len(near) else near


def write_slice(dataset, datasets, output, test_sets, near_duplicate_bits, near_duplicate_rmse):
    """Decide the rows of `dataset` and write its slice; `datasets` as for `load_rows`."""
    rows = decide_rows(dataset, load_rows(datasets), test_sets, near_duplicate_bits, near_duplicate_rmse)
    write_table(output, rows, MANIFEST)
