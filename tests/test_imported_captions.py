import io
import json
import zipfile

import pytest

from dermaflux.errors import UserError
from dermaflux.files import sha256_file
from dermaflux.imported_captions import ImportedCaptions, text_of


def put(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def zipped(path, **files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), text)
    return path


def found(path, image_id):
    texts = ImportedCaptions(path).find(image_id)
    return texts and text_of(texts)


LAYOUTS = {
    "c.csv": 'image_id,caption\nISIC_1,Brown.\nISIC_2,"Red, round"\n',
    "c.tsv": "file_name\ttext\ntrain/ISIC_1.jpg\tBrown.\n",
    "c.json": json.dumps([{"image": "ISIC_1.jpg", "description": "Brown."}]),
    "d.json": json.dumps({"ISIC_1": "Brown."}),
    "e.json": json.dumps({"isic_2019/ISIC_1": {"caption": "Brown.", "border": "Smooth."}}),
    "c.jsonl": '{"file_name": "ISIC_1.png", "text": "Brown."}\n\n{"id": 7, "text": "Red."}\n',
    "ISIC_1.txt": "Brown.\n",
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "zip"])
def test_tables_and_texts_are_read_alone_and_in_a_zip(tmp_path, name, packed):
    path = put(tmp_path / name, LAYOUTS[name])
    if packed:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            archive.write(path, f"captions/{name}")
            archive.writestr("__MACOSX/captions/._x.txt", "rubbish")
            archive.writestr("captions/picture.jpg", b"\xff\xd8")
        path = tmp_path / "all.zip"
    assert found(path, "isic_2019/ISIC_1") == "Brown." and found(path, "isic_2019/ISIC_9") is None


def test_a_zip_inside_a_zip_is_read(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("benign/ISIC_1.txt", "Brown.")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    assert found(tmp_path / "outer.zip", "d/ISIC_1") == "Brown."


def test_the_same_name_in_two_datasets_is_told_apart_or_left_out(tmp_path):
    path = put(tmp_path / "c.csv", "image_id,caption\na/1,Of a.\nb/1,Of b.\n")
    assert [found(path, id) for id in ("a/1", "b/1", "c/1")] == ["Of a.", "Of b.", None]


def test_further_columns_come_along(tmp_path):
    path = put(tmp_path / "c.csv", "image_id,Caption,Border\n1,A mole.,Smooth.\n")
    assert ImportedCaptions(path).find("d/1")["border"] == "Smooth."


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("c.csv", "image_id,caption\n1,A.\n1,B.\n", "has another caption for '1' than what was read before"),
        ("c.csv", "who,what\n1,A.\n", "no captions that can be read. Known are .csv, .tsv, .json, .jsonl"),
        ("c.json", "{", "is not the JSON of a table"),
        ("c.json", "5", "neither a list of objects nor an object"),
        ("c.jsonl", "[1]\n", "neither a list of objects nor an object"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_file(tmp_path, name, text, message):
    path = put(tmp_path / name, text)
    with pytest.raises(UserError, match=message) as error:
        ImportedCaptions(path)
    assert str(path) in str(error.value)


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "c.csv").write_bytes("image_id,caption\n1,Größe\n".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8"):
        ImportedCaptions(tmp_path / "c.csv")


def test_a_zip_that_points_outside_is_refused(tmp_path):
    with pytest.raises(UserError, match="points outside the archive"):
        ImportedCaptions(zipped(tmp_path / "c.zip", **{"..__x_DOT_txt": "A."}))


def test_a_pinned_file_must_have_its_hash(tmp_path):
    path = put(tmp_path / "c.csv", "image_id,caption\n1,A.\n")
    assert ImportedCaptions(path, sha256_file(path)).find("d/1")
    with pytest.raises(UserError, match="not 0000.* as configured"):
        ImportedCaptions(path, "0" * 64)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.zip does not exist; put the file there"):
        ImportedCaptions(tmp_path / "nowhere.zip")
