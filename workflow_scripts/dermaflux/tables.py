"""The tables between the stages: their schemas, and the one way in which they are read and written.

Image columns follow the Hugging Face `Image` feature (`struct<bytes, path>`), so that
`datasets.load_dataset("parquet", ...)` shows pictures.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dermaflux.files import atomic_path

LABELS = ("benign", "malignant")
SPLITS = ("train", "test")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _schema(**columns):
    features = {name: {"_type": "Image"} for name, kind in columns.items() if kind == IMAGE}
    schema = pa.schema(list(columns.items()))
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})}) if features else schema


S, I, F = pa.string(), pa.int32(), pa.float64()

# One row for each row of the source's metadata, kept or not.
INDEX = _schema(
    image_id=S, dataset=S, source_id=S, archive=S, member=S, diagnosis=S, label=S, split=S, patient_id=S, lesion_id=S,
    modality=S, fitzpatrick=S, licence=S, shard=I, drop_reason=S,
)  # fmt: skip

# A dropped row has no image and a drop_reason. thumbnail: the whole image squashed to 32 x 32, 8-bit grey, row by row;
# phash is computed from it, and those of parts of the image can be: near duplicates are found by them.
IMAGES = _schema(
    image_id=S, image=IMAGE, source_width=I, source_height=I, scale=I, sha256=S, pixel_sha256=S, phash=pa.uint64(),
    thumbnail=pa.binary(), label=S, split=S, drop_reason=S,
)  # fmt: skip


def captions_schema(attributes):
    """The schema of captions that describe `attributes` (names, a column each).

    An image that got no caption has an `error` and null as its caption; every reader counts or skips it.
    """
    return _schema(
        image_id=S, caption=S, description=S, **dict.fromkeys(attributes, S), captioner=S, revision=S, prompt_sha256=S,
        seed=pa.int64(), n_tokens=I, error=S,
    )  # fmt: skip


CAPTIONS = captions_schema(("asymmetry", "border", "color"))

# use: train | test | excluded
MANIFEST = _schema(
    image_id=S, dataset=S, shard=I, label=S, split=S, scale=I, use=S, exclude_reason=S, duplicate_of=S,
)  # fmt: skip

# The published image-text pairs.
CORPUS = _schema(
    image_id=S, image=IMAGE, caption=S, label=S, diagnosis=S, dataset=S, split=S, scale=I, modality=S, licence=S,
)  # fmt: skip

SAMPLES = _schema(
    sample_id=S, image=IMAGE, label=S, prompt=S, seed=pa.int64(), generator=S, revision=S, steps=I, guidance=F, scale=I,
)  # fmt: skip

# Images drawn for classifiers, of both labels, each label's in the order of its draw: arms take the first n of each.
DRAWS = _schema(image_id=S, image=IMAGE, label=S)

# score: probability of malignant
PREDICTIONS = _schema(image_id=S, label=S, score=F)

# JPEG bytes do not compress further; row groups of a few MB let single rows be read quickly.
ROW_GROUP = {128: 256, 256: 128, 512: 64}


def from_rows(rows, schema):
    """A table of `schema` from `rows` (dicts; a missing key is null).

    Raises:
        KeyError: a row has a key that the schema does not know.
    """
    rows = list(rows)
    unknown = {key for row in rows for key in row} - set(schema.names)
    if unknown:
        raise KeyError(f"columns {sorted(unknown)} are not in the schema {schema.names}")
    return pa.Table.from_pylist(rows, schema=schema)


def write_table(path, table, schema):
    """Write `table` (pyarrow Table, pandas DataFrame or list of dicts) as Parquet of exactly `schema`, atomically."""
    with table_writer(path, schema) as write:
        write(table)


class table_writer:
    """Context manager that yields `write(table)`: Parquet of `schema` written piece by piece, whole or not at all."""

    def __init__(self, path, schema, row_group=None):
        self.schema, self.row_group = schema, row_group
        images = [f"{name}.bytes" for name in schema.names if schema.field(name).type == IMAGE]
        leaves = [f"{n}.{f}" for n in schema.names if schema.field(n).type == IMAGE for f in ("bytes", "path")]
        leaves += [name for name in schema.names if schema.field(name).type != IMAGE]
        self.compression = {leaf: "none" if leaf in images else "zstd" for leaf in leaves}
        self.atomic = atomic_path(Path(path))

    def __enter__(self):
        temporary = self.atomic.__enter__()
        self.writer = pq.ParquetWriter(temporary, self.schema, compression=self.compression)
        return self.write

    def write(self, table):
        if isinstance(table, list):
            table = from_rows(table, self.schema)
        elif not isinstance(table, pa.Table):
            table = pa.Table.from_pandas(table, schema=self.schema, preserve_index=False)
        # cast keeps the schema's metadata, which carries the Image feature
        self.writer.write_table(table.select(self.schema.names).cast(self.schema), row_group_size=self.row_group)

    def __exit__(self, *error):
        self.writer.close()
        return self.atomic.__exit__(*error)


def read_table(paths, columns=None):
    """The rows of one Parquet file or of several of the same schema, as one pyarrow Table.

    Args:
        paths: a path or a list of paths; the order is kept.
        columns: names to read; others are not touched on disk (image bytes are skipped so).
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    return pa.concat_tables([pq.read_table(path, columns=columns, partitioning=None) for path in paths])


def read_frame(paths, columns=None):
    """As `read_table`, as a pandas DataFrame where missing values are NaN."""
    return read_table(paths, columns).to_pandas()


def chosen_rows(shards, ids, columns):
    """The rows of `shards` (paths) that `ids` name, as dicts of `id` and `columns`, in the shards' order.

    Only row groups that hold one of them are read whole: pictures are large.

    Args:
        ids: set or dict of values of the column image_id or, in samples, sample_id.
    """
    for shard in shards:
        with pq.ParquetFile(shard) as file:
            key = next(name for name in file.schema_arrow.names if name in ("image_id", "sample_id"))
            for group in range(file.num_row_groups):
                found = [i for i, id in enumerate(file.read_row_group(group, [key])[key].to_pylist()) if id in ids]
                if found:
                    rows = file.read_row_group(group, [key, *columns]).take(found).to_pylist()
                    yield from ({"id": row[key]} | {name: row[name] for name in columns} for row in rows)


def write_csv(path, frame):
    """Write a DataFrame as CSV, atomically; floats with 6 digits."""
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
