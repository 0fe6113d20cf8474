"""The corpus manifest: every decision across datasets, one slice a dataset.

The test side is protected: a training image that equals, nearly equals, or shares its lesion with a test image is
excluded. Among training images the one listed first is kept: earlier datasets, then the smaller image_id. So a dataset
added at the end decides its own rows and no others.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dermaflux.duplicates import Pictures, near_duplicates
from dermaflux.images import THUMBNAIL_SIDE
from dermaflux.tables import MANIFEST, read_frame, read_table, write_table

COLUMNS = ["image_id", "source_width", "source_height", "scale", "sha256", "pixel_sha256", "phash", "label", "split", "drop_reason"]  # fmt: skip
GROUPS = ("lesion", "patient")


def load_rows(datasets):
    """Rows of several datasets, in their order, each sorted by image_id, without images.

    Args:
        datasets: list of (name, index path, image shard paths).

    Returns:
        (rows, thumbnails): DataFrame with COLUMNS, dataset, shard, lesion_id and patient_id (null where unknown;
        otherwise unique across datasets); uint8 [rows, 32, 32], zeros where there is no picture.
    """
    frames = []
    for name, index, images in datasets:
        rows = read_frame(images, COLUMNS)
        rows["place"] = np.arange(len(rows))
        known = read_frame(index, ["image_id", "shard", *(f"{group}_id" for group in GROUPS)])
        rows = rows.merge(known, on="image_id", validate="1:1", how="left")
        for group in GROUPS:
            rows[f"{group}_id"] = name + "/" + rows[f"{group}_id"]
        frames.append(rows.assign(dataset=name).sort_values("image_id"))
    rows = pd.concat(frames, ignore_index=True)
    return rows.drop(columns="place"), _load_thumbnails(datasets, [frame["place"] for frame in frames], len(rows))


def _load_thumbnails(datasets, places, count):
    """uint8 [count, 32, 32]: row by row, as `load_rows` sorts them; `places`: where each row stands in its shards."""
    thumbnails, first = np.empty((count, THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8), 0
    for (_, _, images), place in zip(datasets, places):
        target = np.empty(len(place), np.int64)
        target[place] = first + np.arange(len(place))
        done = 0
        for path in images:
            some = _as_array(read_table(path, ["thumbnail"])["thumbnail"])
            thumbnails[target[done : done + len(some)]] = some
            done += len(some)
        first += len(place)
    return thumbnails


def _as_array(column):
    """A column of thumbnails (bytes; null: zeros) as uint8 [n, 32, 32], without a Python object for each."""
    size = THUMBNAIL_SIDE**2
    filled = pc.fill_null(column, bytes(size)).cast(pa.binary(size))
    chunks = [np.frombuffer(c.buffers()[1], np.uint8)[c.offset * size :][: len(c) * size] for c in filled.chunks]
    return np.concatenate([np.empty(0, np.uint8), *chunks]).reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)


def _pictures(rows, thumbnails):
    """What near duplicates are found by, for `rows` (labelled by their place in `thumbnails`)."""
    aspect = (rows["source_width"] / rows["source_height"]).to_numpy(float)
    return Pictures(rows["phash"].to_numpy(np.uint64), aspect, thumbnails, rows.index.to_numpy())


def _first_by(others, column):
    known = others.dropna(subset=[column]).drop_duplicates(column)
    return known.set_index(column)["image_id"]


def _near(rows, others, thumbnails, bits, rmse, crops):
    """For each of `rows` the first of `others` (by position) that is a near duplicate, as a Series by row label."""
    if rows.empty or others.empty:
        return pd.Series(dtype=object)
    i, j = near_duplicates(_pictures(rows, thumbnails), _pictures(others, thumbnails), bits, rmse, crops)
    first = np.unique(i, return_index=True)[1]  # pairs are sorted: the first of each i has the smallest j
    return pd.Series(others["image_id"].to_numpy()[j[first]], index=rows.index[i[first]])


def _exclude(rows, partners, reason):
    """Mark those rows that are still undecided and have a partner (Series by row label, nulls ignored)."""
    partners = partners.dropna()
    chosen = rows.index.isin(partners.index) & rows["use"].isna()
    rows.loc[chosen, "use"] = "excluded"
    rows.loc[chosen, "exclude_reason"] = reason
    rows.loc[chosen, "duplicate_of"] = partners.reindex(rows.index[chosen])


def decide_rows(dataset, all_rows, thumbnails, test_sets, groups, bits, rmse):
    """The slice of the manifest for `dataset`.

    Args:
        dataset: its name.
        all_rows, thumbnails: of `load_rows`: the datasets up to this one in their order, and those with test images.
        test_sets: names of the datasets whose test split is the test set.
        groups: which of GROUPS must not be in both training and test.
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

    def undecided():
        return rows[rows["use"].isna()]

    for column in ("sha256", "pixel_sha256"):
        _exclude(rows, undecided()[column].map(_first_by(test, column)), "duplicate_of_test")
    for group in groups:
        column = f"{group}_id"
        _exclude(rows, undecided()[column].map(_first_by(test, column)), f"{group}_in_test")
    _exclude(rows, _near(undecided(), test, thumbnails, bits, rmse, crops=True), "near_duplicate_of_test")
    for column in ("sha256", "pixel_sha256"):
        mine = undecided()
        first = mine[column].map(_first_by(train, column))
        _exclude(rows, first[first != mine["image_id"]], "duplicate")
    _exclude(rows, _earlier_near(undecided(), train, thumbnails, bits, rmse), "near_duplicate")
    rows.loc[rows["use"].isna(), "use"] = "train"
    return rows[MANIFEST.names]


def _earlier_near(mine, train, thumbnails, bits, rmse):
    """Near duplicates among the training rows that stand before each row (row labels grow in the order of the list)."""
    near = _near(mine, train, thumbnails, bits, rmse, crops=False)
    position = pd.Series(train.index, index=train["image_id"])
    return near[position.reindex(near).to_numpy() < near.index.to_numpy()] if len(near) else near


def write_slice(dataset, datasets, output, test_sets, groups, near_duplicate_bits, near_duplicate_rmse):
    """Decide the rows of `dataset` and write its slice; `datasets` as for `load_rows`."""
    rows, thumbnails = load_rows(datasets)
    decided = decide_rows(dataset, rows, thumbnails, test_sets, groups, near_duplicate_bits, near_duplicate_rmse)
    write_table(output, decided, MANIFEST)
