"""Which images the arms of the classifier study train on. Paper section 3.2: balanced, randomly sampled.

Draws are balanced, seeded and nested: images are ranked by a hash of (seed, id), and an arm of n images per label takes
the first n. So a larger arm contains the smaller one.
"""

from dermaflux.errors import UserError
from dermaflux.files import fraction
from dermaflux.tables import DRAWS, LABELS, chosen_rows, read_frame, table_writer


def draw(rows, images, seed, what):
    """The first `images` of `rows`, half of each label.

    Args:
        rows: list of (id, label), in any order.
        images: int, even.
        seed: int.
        what: what is drawn from, for the error.

    Returns:
        list of ids, benign first.

    Raises:
        UserError: `images` is odd, or a label has fewer than half of it.
    """
    if images % 2:
        raise UserError(f"an arm of {images} images from {what} cannot be balanced: give an even number")
    drawn = []
    for label in LABELS:
        ids = sorted((id for id, its in rows if its == label), key=lambda id: (fraction("draw", seed, id), id))
        if len(ids) < images // 2:
            raise UserError(
                f"an arm needs {images // 2} {label} images from {what}, which has {len(ids)}: "
                "lower the sizes under `classify` in the configuration"
            )
        drawn += ids[: images // 2]
    return drawn


def write_draw(rows, images, seed, shards, output, what):
    """Collect the first `images` of `rows` with their pictures, benign first, each label in the order of its draw.

    Because draws are nested, every arm of a seed finds its images in this one file.

    Args:
        rows: list of (id, label) that may be drawn.
        images, seed, what: see `draw`.
        shards: paths of tables with the column image_id or sample_id, and image.
        output: path (tables.DRAWS).
    """
    order = {id: rank for rank, id in enumerate(draw(rows, images, seed, what))}
    labels = dict(rows)
    found = {row["id"]: row["image"] for row in chosen_rows(shards, order, ["image"])}
    with table_writer(output, DRAWS, row_group=256) as write:
        ids = sorted(order, key=order.get)
        for start in range(0, len(ids), 1024):
            write([{"image_id": id, "image": found[id], "label": labels[id]} for id in ids[start : start + 1024]])


def manifest_rows(manifests, use):
    """(id, label) of all rows that the manifest slices use as `use` (train | test)."""
    frame = read_frame(manifests, ["image_id", "label", "use"])
    return list(frame.loc[frame["use"] == use, ["image_id", "label"]].itertuples(index=False, name=None))


def sample_rows(shards):
    """(id, label) of all samples in the shards (tables.SAMPLES)."""
    frame = read_frame(shards, ["sample_id", "label"])
    return list(frame.itertuples(index=False, name=None))


def released_rows(shards):
    """(id, label) of all kept images in the shards (tables.IMAGES) of a released synthetic set."""
    frame = read_frame(shards, ["image_id", "label", "drop_reason"])
    return list(frame.loc[frame["drop_reason"].isna(), ["image_id", "label"]].itertuples(index=False, name=None))


def write_test_images(manifests, shards, output):
    """Collect the pictures of all rows that the manifest uses for the test (tables.DRAWS), sorted by id."""
    labels = dict(manifest_rows(manifests, "test"))
    if set(labels.values()) != set(LABELS):
        raise UserError(
            f"the test set has {len(labels)} images and the labels {sorted(set(labels.values()))}: it needs both labels. "
            "See `manifest.test_sets` in the configuration and the exclude_reason column of the manifest"
        )
    with table_writer(output, DRAWS, row_group=256) as write:
        for shard in shards:
            rows = sorted(chosen_rows([shard], labels, ["image"]), key=lambda row: row["id"])
            write([{"image_id": row["id"], "image": row["image"], "label": labels[row["id"]]} for row in rows])
