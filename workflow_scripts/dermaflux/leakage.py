"""The duplicate and leakage report over all slices of the manifest."""

from dermaflux.plots import picture_sheet
from dermaflux.tables import chosen_rows, read_frame, write_csv


def report_leakage(manifests, shards, pairs, matrix, sheet, examples=12):
    """Write what the manifest found.

    Args:
        manifests: paths of all slices.
        shards: paths of all image shards, for the pictures.
        pairs: CSV to write: every excluded image that has a partner, with reason and partner.
        matrix: CSV to write: how many images of one dataset (row) were excluded for one of another (column), by reason.
        sheet: JPEG to write: up to `examples` pairs, excluded image above its partner.
    """
    rows = read_frame(manifests)
    found = rows[rows["duplicate_of"].notna() & (rows["use"] == "excluded")]
    found = found[["image_id", "dataset", "exclude_reason", "duplicate_of"]].copy()
    found["partner_dataset"] = found["duplicate_of"].str.split("/").str[0]
    write_csv(pairs, found)
    counts = found.groupby(["exclude_reason", "dataset", "partner_dataset"]).size().rename("images").reset_index()
    write_csv(matrix, counts)
    shown = found.groupby("exclude_reason").head(max(1, examples // max(1, found["exclude_reason"].nunique())))
    wanted = {*shown["image_id"], *shown["duplicate_of"]}
    images = {row["id"]: row["image"] for row in chosen_rows(shards, wanted, ["image"])}
    pair_rows = []
    for reason, some in shown.groupby("exclude_reason"):
        kept = some[some["image_id"].map(images.get).notna() & some["duplicate_of"].map(images.get).notna()]
        pair_rows.append((f"excluded: {reason.replace('_', ' ')}", [images[i] for i in kept["image_id"]]))
        pair_rows.append(("its partner", [images[i] for i in kept["duplicate_of"]]))
    picture_sheet([row for row in pair_rows if row[1]] or [("no duplicates found", [])], sheet)
