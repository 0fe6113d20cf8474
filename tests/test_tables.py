import json

import pyarrow.parquet as pq
import pytest

from dermaflux.tables import CORPUS, IMAGES, SAMPLES, chosen_rows, read_table, table_writer, write_table


def test_image_columns_carry_the_feature_that_shows_pictures(tmp_path):
    write_table(tmp_path / "a.parquet", [{"image_id": "x/1", "image": {"bytes": b"jpeg", "path": "1.jpg"}}], CORPUS)
    metadata = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"huggingface"])
    assert metadata["info"]["features"] == {"image": {"_type": "Image"}}


def test_jpeg_bytes_are_not_compressed_again_and_the_rest_is(tmp_path):
    write_table(tmp_path / "a.parquet", [{"image_id": "x/1", "image": {"bytes": b"jpeg", "path": None}}], IMAGES)
    group = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0)
    codecs = {group.column(i).path_in_schema: group.column(i).compression for i in range(group.num_columns)}
    assert codecs["image.bytes"] == "UNCOMPRESSED"
    assert codecs["image_id"] == "ZSTD"


def test_a_column_that_the_schema_does_not_know_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(KeyError, match="imageid"):
        write_table(tmp_path / "a.parquet", [{"imageid": "x"}], IMAGES)
    assert not list(tmp_path.iterdir())


def test_a_table_written_in_pieces_is_whole_or_absent(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(RuntimeError), table_writer(path, IMAGES) as write:
        write([{"image_id": "x/1"}])
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with table_writer(path, IMAGES) as write:
        write([{"image_id": "x/1"}])
        write([{"image_id": "x/2"}])
    assert read_table([path, path], ["image_id"])["image_id"].to_pylist() == ["x/1", "x/2"] * 2


def test_a_table_of_no_rows_has_its_schema(tmp_path):
    write_table(tmp_path / "a.parquet", [], IMAGES)
    assert read_table(tmp_path / "a.parquet").schema.names == IMAGES.names


def test_chosen_rows_come_from_all_shards_and_by_either_id(tmp_path):
    with table_writer(tmp_path / "a.parquet", IMAGES, row_group=2) as write:
        write([{"image_id": f"x/{i}", "label": "benign", "drop_reason": str(i)} for i in range(7)])
    write_table(tmp_path / "b.parquet", [{"sample_id": "s/1", "label": "malignant"}, {"sample_id": "s/2"}], SAMPLES)
    rows = list(chosen_rows([tmp_path / "a.parquet", tmp_path / "b.parquet"], {"x/5", "x/0", "s/1"}, ["label"]))
    assert rows == [
        {"id": "x/0", "label": "benign"},
        {"id": "x/5", "label": "benign"},
        {"id": "s/1", "label": "malignant"},
    ]


def test_pictures_of_row_groups_without_a_chosen_row_are_not_read(tmp_path, monkeypatch):
    with table_writer(tmp_path / "a.parquet", IMAGES, row_group=2) as write:
        write([{"image_id": f"x/{i}", "image": {"bytes": b"jpeg", "path": None}} for i in range(6)])
    read, whole = [], pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda file, i, columns: read.append((i, columns)) or whole(file, i, columns)
    )
    list(chosen_rows([tmp_path / "a.parquet"], {"x/3"}, ["image"]))
    assert [group for group, columns in read if "image" in columns] == [1]
