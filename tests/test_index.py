"""The index: three ways of saying a diagnosis, joined tables, and messages that name the file, row or key."""

import io
import re
import zipfile

import pytest

from dermaflux.descriptors import Descriptor
from dermaflux.errors import UserError
from dermaflux.index import index_dataset, shard_of
from dermaflux.tables import INDEX, read_table

MAPPING = {"NV": "benign", "MEL": "malignant", "AK": "ambiguous", "UNK": "unlabelled"}


def facts(**changes):
    """Facts of a small dataset: images in a zip, a table with a diagnosis column."""
    part = {
        "images": ["images.zip"], "members": r"(?P<source_id>[^/]+)\.jpg", "split": "train", "table": "table.csv",
        "source_id": "id", "diagnosis": "dx",
    }  # fmt: skip
    part |= changes.pop("part", {})
    if part["table"] is None:
        part["source_id"] = part["diagnosis"] = None
    names = changes.pop("archives", ["images.zip"] + [part["table"]] * bool(part["table"]))
    values = {
        "name": "small", "title": "", "citation": "", "url": "", "licence": "CC0", "redistribute": True,
        "access": "https", "modality": "dermoscopic", "images": 4, "labels": MAPPING, "parts": [part],
        "archives": [{"name": name} for name in names],
    }  # fmt: skip
    return Descriptor.model_validate(values | changes).index_facts()


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.writestr(name, members[name] if isinstance(members, dict) else b"")


@pytest.fixture
def index(tmp_path):
    """index(facts, table text, image names, ...) -> rows as dicts"""

    def run(its_facts, table, images, ambiguous="exclude", check_counts=False, shard_size=2, **files):
        write_zip(tmp_path / "images.zip", images)
        if table is not None:
            (tmp_path / "table.csv").write_text(table)
        for name, text in files.items():
            (tmp_path / f"{name}.csv").write_text(text)
        paths = [path for path in tmp_path.iterdir() if path.suffix in (".zip", ".csv")]
        output = tmp_path / "index.parquet"
        output.unlink(missing_ok=True)
        try:
            index_dataset(paths, output, its_facts, ambiguous, shard_size, check_counts)
        except UserError:
            assert not output.exists()
            raise
        table = read_table(output)
        assert table.schema == INDEX
        return table.to_pylist()

    return run


TABLE = "id,dx\na,NV\nb,MEL\nc,AK\nd,UNK\n"
IMAGES = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_a_column_says_the_diagnosis(index):
    rows = index(facts(), TABLE, IMAGES)
    assert [row["image_id"] for row in rows] == ["small/a", "small/b", "small/c", "small/d"]
    assert [row["label"] for row in rows] == ["benign", "malignant", None, None]
    assert [row["drop_reason"] for row in rows] == [None, None, "ambiguous_label", "no_label"]
    assert {row["modality"] for row in rows} == {"dermoscopic"}
    assert rows[0]["member"] == "a.jpg"
    assert all(row["shard"] == shard_of(row["image_id"], 2) for row in rows)


@pytest.mark.parametrize("ambiguous", ["benign", "malignant"])
def test_ambiguous_diagnoses_follow_the_setting(index, ambiguous):
    rows = index(facts(), TABLE, IMAGES, ambiguous)
    assert (rows[2]["label"], rows[2]["drop_reason"]) == (ambiguous, None)


def test_one_hot_columns_say_the_diagnosis(index):
    its_facts = facts(part={"diagnosis": ["NV", "MEL"]})
    rows = index(its_facts, "id,NV,MEL\na,1.0,0.0\nb,0.0,1.0\n", IMAGES[:2])
    assert [row["diagnosis"] for row in rows] == ["NV", "MEL"]


def test_folders_say_the_diagnosis_and_the_split(index):
    members = r"(?P<source_id>(?P<split>train|test)/(?P<label>NV|MEL)/[^/]+)\.jpg"
    its_facts = facts(part={"table": None, "split": None, "members": members})
    rows = index(its_facts, None, ["train/NV/1.jpg", "test/MEL/1.jpg", "readme.txt"])
    assert [(row["source_id"], row["split"], row["label"]) for row in rows] == [
        ("train/NV/1", "train", "benign"), ("test/MEL/1", "test", "malignant"),
    ]  # fmt: skip


def test_columns_of_a_joined_table_are_added_and_translated(index):
    part = {
        "join": [{"table": "lesions.csv", "by": "lesion"}], "columns": {"lesion_id": "lesion", "modality": "kind"},
        "values": {"modality": {"close-up": "clinical"}},
    }  # fmt: skip
    its_facts = facts(part=part, archives=["images.zip", "table.csv", "lesions.csv"])
    table, lesions = "id,lesion,kind\na,L1,close-up\nb,L1,\nc,L2,close-up\n", "lesion,dx\nL1,NV\nL2,MEL\n"
    rows = index(its_facts, table, IMAGES[:3], lesions=lesions)
    assert [(row["lesion_id"], row["diagnosis"], row["modality"]) for row in rows] == [
        ("L1", "NV", "clinical"), ("L1", "NV", "dermoscopic"), ("L2", "MEL", "clinical"),
    ]  # fmt: skip


def test_a_table_within_an_archive_is_read_there(tmp_path):
    inner = io.BytesIO()
    write_zip(inner, ["a.jpg", "b.jpg"])
    write_zip(tmp_path / "images.zip", {"meta/table.tab": "id\tdx\na\tNV\nb\tMEL\n", "i.zip": inner.getvalue()})
    part = {"table": "images.zip!meta/table.tab", "members": r"i\.zip!(?P<source_id>[^/]+)\.jpg"}
    its_facts = facts(part=part, archives=["images.zip"])
    index_dataset([tmp_path / "images.zip"], tmp_path / "o.parquet", its_facts, "exclude", 10, False)
    assert read_table(tmp_path / "o.parquet")["member"].to_pylist() == ["i.zip!a.jpg", "i.zip!b.jpg"]


def test_an_images_shard_depends_on_its_id_alone(index):
    few = {row["image_id"]: row["shard"] for row in index(facts(), "id,dx\na,NV\nb,MEL\n", IMAGES[:2])}
    many = {row["image_id"]: row["shard"] for row in index(facts(), TABLE, IMAGES)}
    assert few.items() <= many.items()


def test_rows_without_an_image_and_images_without_a_row_are_kept_with_a_reason(index):
    rows = index(facts(), "id,dx\na,NV\nb,MEL\ngone,NV\n", ["a.jpg", "b.jpg", "stray.jpg"])
    by_id = {row["source_id"]: row for row in rows}
    assert by_id["gone"]["drop_reason"] == "no_image"
    assert (by_id["stray"]["drop_reason"], by_id["stray"]["diagnosis"]) == ("no_metadata", None)
    assert by_id["a"]["drop_reason"] is None


def test_the_second_of_a_listed_pair_is_dropped(index):
    its_facts = facts(duplicates="pairs.csv", archives=["images.zip", "table.csv", "pairs.csv"])
    rows = index(its_facts, "id,dx\na,NV\nb,NV\nc,MEL\n", IMAGES[:3], pairs="one,two\na,b\n")
    assert [row["drop_reason"] for row in rows] == [None, "listed_duplicate", None]


def test_an_unmapped_diagnosis_is_fatal_and_says_what_to_add(index):
    table = "id,dx\na,NV\nb,MEL\nc,Spitz nevus\nd,Spitz nevus\n"
    with pytest.raises(UserError) as error:
        index(facts(), table, IMAGES)
    assert str(error.value).splitlines() == [
        "table.csv (dx): the descriptor of small does not say what these diagnoses mean:",
        "  'Spitz nevus': 2 rows, the first is row 3",
        "Add to `labels` in small.yaml, for example:",
        '  "Spitz nevus": benign  # or malignant, ambiguous, unlabelled',
    ]


BAD = {
    "a row twice": ("id,dx\na,NV\nb,MEL\na,NV\n", IMAGES, "table.csv: the id 'a' stands twice, in rows 1 and 3"),
    "an image twice": (TABLE, [*IMAGES, "x.jpg/../a.jpg"], "points outside the archive"),
    "a missing column": ("id,diagnosis\na,NV\n", IMAGES, "no column 'dx': table.csv has id, diagnosis"),
    "an empty class": ("id,dx\na,NV\nb,NV\n", IMAGES[:2], "small: none of 2 rows is malignant"),
    "a cut row": ("id,dx\na,NV\nb\n", IMAGES, "table.csv, row 2: 1 cells, the header has 2; is the file truncated"),
    "an empty table": ("", IMAGES, "table.csv is empty"),
    "no image matches": (TABLE, ["a.bmp"], "none of 1 members matches `members` .* The first are: a.bmp"),
}


@pytest.mark.parametrize(("table", "images", "message"), BAD.values(), ids=BAD)
def test_bad_tables_are_fatal_and_named(index, table, images, message):
    with pytest.raises(UserError, match=message):
        index(facts(), table, images)


def test_an_id_that_stands_for_two_images_is_fatal(index):
    its_facts = facts(part={"members": r"(?:[^/]+/)*(?P<source_id>[^/]+)\.jpg"})
    with pytest.raises(UserError, match=re.escape("images.zip: the id 'a' stands for two images: x/a.jpg and y/a.jpg")):
        index(its_facts, TABLE, ["x/a.jpg", "y/a.jpg"])


def test_another_number_of_rows_is_fatal_where_counts_are_checked(index):
    index(facts(), TABLE, IMAGES, check_counts=True)
    with pytest.raises(UserError, match="metadata has 4 rows, but its descriptor says 5 images"):
        index(facts(images=5), TABLE, IMAGES, check_counts=True)


@pytest.mark.parametrize(("cells", "found"), [("1.0,1.0", "there are 2: NV, MEL"), ("0,0", "there are 0: none")])
def test_a_one_hot_row_with_not_exactly_one_class_is_fatal(index, cells, found):
    with pytest.raises(UserError, match=rf"table.csv, row 1 \(a\): of NV, MEL exactly one must be 1, but {found}"):
        index(facts(part={"diagnosis": ["NV", "MEL"]}), f"id,NV,MEL\na,{cells}\n", ["a.jpg"])


def test_a_value_that_is_not_translated_is_fatal(index):
    part = {"columns": {"modality": "kind"}, "values": {"modality": {"dermoscopic": "dermoscopic"}}}
    with pytest.raises(UserError, match="row 1: kind is 'xray', which the descriptor does not translate to a modality"):
        index(facts(part=part), "id,dx,kind\na,NV,xray\n", ["a.jpg"])


def test_a_binary_file_in_place_of_a_table_is_named(tmp_path):
    write_zip(tmp_path / "images.zip", IMAGES)
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00\x01" * 100)
    with pytest.raises(UserError, match="table.csv is not a text table"):
        index_dataset([tmp_path / "images.zip", tmp_path / "table.csv"], tmp_path / "o", facts(), "exclude", 2, False)


def test_importing_the_index_is_quick_and_without_torch():
    import subprocess
    import sys
    from pathlib import Path

    library = Path(__file__).parent.parent / "workflow_scripts"
    program = (
        f"import sys; sys.path.insert(0, {str(library)!r}); import dermaflux.index, dermaflux.images, dermaflux.download;"
        "assert not {'torch', 'snakemake', 'cv2', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
