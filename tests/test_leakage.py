import pandas as pd
from PIL import Image

from conftest import painted_rows
from dermaflux.leakage import report_leakage
from dermaflux.tables import IMAGES, MANIFEST, write_table


def run(folder, rows):
    write_table(folder / "images.parquet", painted_rows(4, 1), IMAGES)
    write_table(folder / "manifest.parquet", rows, MANIFEST)
    paths = [folder / name for name in ("pairs.csv", "matrix.csv", "sheet.jpg")]
    report_leakage([folder / "manifest.parquet"], [folder / "images.parquet"], *paths)
    return pd.read_csv(paths[0]), pd.read_csv(paths[1]), Image.open(paths[2])


def test_every_pair_is_listed_counted_and_shown(tmp_path):
    rows = [
        {"image_id": "d/0", "dataset": "d", "use": "excluded", "exclude_reason": "duplicate", "duplicate_of": "d/1"},
        {
            "image_id": "d/2",
            "dataset": "d",
            "use": "excluded",
            "exclude_reason": "duplicate_of_test",
            "duplicate_of": "d/3",
        },
        {"image_id": "d/1", "dataset": "d", "use": "train"},
        {"image_id": "d/9", "dataset": "d", "use": "excluded", "exclude_reason": "too_small"},
    ]
    pairs, matrix, sheet = run(tmp_path, rows)
    assert pairs[["image_id", "duplicate_of"]].values.tolist() == [["d/0", "d/1"], ["d/2", "d/3"]]
    assert matrix.values.tolist() == [["duplicate", "d", "d", 1], ["duplicate_of_test", "d", "d", 1]]
    assert sheet.height > 4 * 128


def test_a_corpus_without_copies_gives_empty_tables(tmp_path):
    pairs, matrix, _ = run(tmp_path, [{"image_id": "d/0", "dataset": "d", "use": "train"}])
    assert pairs.empty and matrix.empty
