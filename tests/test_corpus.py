import io

from PIL import Image

from conftest import painted_rows
from dermaflux.corpus import write_card, write_corpus_shard
from dermaflux.tables import CAPTIONS, IMAGES, INDEX, MANIFEST, read_table, write_table


def parts(folder):
    """Index, images, captions and manifest of a dataset of four images: train, excluded, test, quarantined caption."""
    pictures = painted_rows(4, 2, split="train", scale=128)
    ids = [row["image_id"] for row in pictures]
    uses = ["train", "excluded", "test", "train"]
    tables = {
        "index": ([{"image_id": id, "dataset": "d", "diagnosis": "nevus", "licence": "CC0-1.0"} for id in ids], INDEX),
        "images": (pictures, IMAGES),
        "captions": (
            [{"image_id": id, "caption": f"of {id}"} for id in ids[:3]] + [{"image_id": ids[3], "error": "x"}],
            CAPTIONS,
        ),
        "manifest": ([{"image_id": id, "use": use} for id, use in zip(ids, uses, strict=True)], MANIFEST),
    }
    for name, (rows, schema) in tables.items():
        write_table(folder / f"{name}.parquet", rows, schema)
    return {name: folder / f"{name}.parquet" for name in tables}


def test_a_shard_holds_the_rows_of_its_split_with_caption_licence_and_picture(tmp_path):
    paths = parts(tmp_path)
    for split, expected in (("train", ["d/0"]), ("test", ["d/2"])):
        write_corpus_shard(**paths, output=tmp_path / "out.parquet", split=split)
        rows = read_table(tmp_path / "out.parquet").to_pylist()
        assert [row["image_id"] for row in rows] == expected
        assert rows[0]["caption"] == f"of {expected[0]}" and rows[0]["licence"] == "CC0-1.0"
        assert Image.open(io.BytesIO(rows[0]["image"]["bytes"])).size == (128, 128)


def test_the_card_lists_licences_and_leaves_out_what_may_not_be_published(tmp_path):
    paths = parts(tmp_path)
    facts = {"name": "d", "title": "Dee", "url": "https://d.example", "licence": "CC0-1.0", "citation": "Dee 2020"}
    closed = {**facts, "title": "Closed", "licence": "research only", "redistribute": False}
    open_and_closed = [{**facts, "redistribute": True}, closed]
    write_card(open_and_closed, [paths["manifest"]] * 2, [paths["captions"]], tmp_path / "README.md", "measured")
    card = (tmp_path / "README.md").read_text()
    assert "license: cc0-1.0" in card and "Dee 2020" in card
    assert "| [Dee](https://d.example) | CC0-1.0 | 2 |" in card  # one of three has no caption
    assert "Captions: measured; 2 images got none that could be used" in card
    assert "forbid redistribution: used, not published) | research only | 0 |" in card
