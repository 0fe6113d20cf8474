import pandas as pd
import pytest

from conftest import ROOT, caption_measured, painted_rows
from dermaflux.captioner_study import compare_captioners, draw_comparison_images
from dermaflux.errors import UserError
from dermaflux.tables import CAPTIONS, IMAGES, MANIFEST, read_frame, write_table

WORDS = ROOT / "config/caption_words.yaml"
TEMPLATE = ROOT / "report/comparison.html.j2"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder with images.parquet and manifest.parquet: 20 lesions, the last two of which are not for training."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = painted_rows(20, 3, split="train", scale=128)
    write_table(folder / "images.parquet", rows, IMAGES)
    uses = [
        {"image_id": r["image_id"], "label": r["label"], "use": "train" if i < 18 else "test"}
        for i, r in enumerate(rows)
    ]
    write_table(folder / "manifest.parquet", uses, MANIFEST)
    return folder


def draw(corpus, output, images=8, seed=0):
    draw_comparison_images([corpus / "manifest.parquet"], [corpus / "images.parquet"], output, images, seed)
    return read_frame(output)


def test_the_draw_is_balanced_seeded_and_of_training_images(corpus, tmp_path):
    drawn = draw(corpus, tmp_path / "a.parquet")
    assert sorted(drawn["label"]) == ["benign"] * 4 + ["malignant"] * 4
    assert not {"d/18", "d/19"} & set(drawn["image_id"])
    assert drawn["image"].map(lambda image: len(image["bytes"])).min() > 100 and (drawn["scale"] == 128).all()
    again, other = draw(corpus, tmp_path / "b.parquet"), draw(corpus, tmp_path / "c.parquet", seed=1)
    assert list(drawn["image_id"]) == list(again["image_id"]) != list(other["image_id"])


def test_the_labels_are_mixed_and_not_one_after_the_other(corpus, tmp_path):
    labels = list(draw(corpus, tmp_path / "a.parquet", images=18)["label"])
    assert labels not in (sorted(labels), sorted(labels, reverse=True))


def test_too_few_images_of_a_label_say_what_to_lower(corpus, tmp_path):
    with pytest.raises(
        UserError, match="needs 10 benign training images that may be .* are 9: lower `caption_comparison.images`"
    ):
        draw(corpus, tmp_path / "a.parquet", images=20)


@pytest.fixture
def study(corpus, tmp_path):
    """(table, page) of a comparison of the measured captions with those of one who claims whatever, and gave up once."""
    images, measured, other = (tmp_path / f"{name}.parquet" for name in ("images", "measured", "other"))
    drawn = draw(corpus, images)
    caption_measured(images, measured)
    claim = "A <script>alert(1)</script> symmetrical & benign mole with a smooth border."
    rows = [{"image_id": id, "description": claim if i else None} for i, id in enumerate(drawn["image_id"])]
    write_table(other, rows, CAPTIONS)
    captions = {"measured": measured, "other": other}
    compare_captioners(images, captions, WORDS, TEMPLATE, tmp_path / "c.csv", tmp_path / "c.html")
    return pd.read_csv(tmp_path / "c.csv", index_col="captioner"), (tmp_path / "c.html").read_text()


def test_the_figures_stand_side_by_side(study):
    table, page = study
    assert list(table.index) == ["measured", "other"] and list(table["captions"]) == [8, 8]
    assert table.loc["measured", "colors_jaccard"] == 1 and table.loc["other", "failed"] == 1 / 8
    assert table.loc["other", "exact_repeats"] > 0.8 > table.loc["measured", "exact_repeats"]
    assert pd.isna(table.loc["other", "spearman_border"])
    assert '<th class="n">measured</th><th class="n">other</th>' in page and "12.5%" in page


def test_the_sheet_shows_every_picture_and_what_each_captioner_wrote(study):
    page = study[1]
    assert page.count("data:image/jpeg;base64,") == 8
    assert page.count("symmetrical &amp; benign mole") == 7 and page.count("no caption") == 1
    assert "claims symmetrical: not as measured" in page or "claims symmetrical, smooth: not as measured" in page
    assert 3 <= page.count("claims another label than malignant") <= 4
    assert "claims another label than benign" not in page


def test_captions_are_shown_as_text_and_nothing_is_loaded_from_elsewhere(study):
    page = study[1]
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "http://" not in page and "https://" not in page
