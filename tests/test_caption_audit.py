import pandas as pd
import pytest

from conftest import ROOT, caption_measured, painted_rows
from dermaflux.caption_audit import audit_captions, distinct_ngrams, near_repeats, readable, text_figures
from dermaflux.caption_words import CaptionReader
from dermaflux.files import read_json
from dermaflux.tables import CAPTIONS, IMAGES, read_frame, write_table

WORDS = ROOT / "config/caption_words.yaml"
LONG = "the mole in this image is symmetrical and its border is smooth while the color is light brown throughout"


@pytest.fixture(scope="module")
def reader():
    return CaptionReader(WORDS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder with images.parquet and the measured captions of its 24 lesions."""
    folder = tmp_path_factory.mktemp("corpus")
    write_table(folder / "images.parquet", painted_rows(24, 3, split="train", scale=128), IMAGES)
    caption_measured(folder / "images.parquet", folder / "captions.parquet")
    return folder


def audit(corpus, folder, captions=None, images=100):
    audit_captions(
        [captions or corpus / "captions.parquet"],
        [corpus / "images.parquet"],
        WORDS,
        folder / "audit.json",
        folder / "confusion.csv",
        images,
        0,
    )
    return read_json(folder / "audit.json"), pd.read_csv(folder / "confusion.csv")


def texts(*descriptions, label="benign"):
    return pd.DataFrame({"description": descriptions, "label": label})


def test_measured_captions_agree_with_what_is_measured(corpus, tmp_path):
    figures, confusion = audit(corpus, tmp_path)
    assert figures["n_asymmetry"] == figures["n_border"] == figures["n_colors"] == figures["captions"] == 24
    assert min(figures[f"spearman_{name}"] for name in ("asymmetry", "border")) > 0.75
    assert figures["spearman_colors"] == pytest.approx(1) and figures["colors_jaccard"] == 1
    assert confusion["captions"].sum() == 2 * 24
    assert confusion.loc[confusion["claimed"] != confusion["measured"], "captions"].sum() == 0
    assert figures["label_contradictions"] == 0 and figures["mentions_border"] == 1


def test_captions_of_other_images_do_not_agree(corpus, tmp_path):
    frame = read_frame(corpus / "captions.parquet")
    frame["description"] = frame["description"].to_numpy()[::-1]
    write_table(tmp_path / "c.parquet", frame, CAPTIONS)
    figures, confusion = audit(corpus, tmp_path, tmp_path / "c.parquet")
    assert figures["spearman_border"] < 0.5
    assert confusion.loc[confusion["claimed"] != confusion["measured"], "captions"].sum() > 8


def test_the_sample_is_no_larger_than_asked_and_the_words_of_all_are_counted(corpus, tmp_path):
    figures, confusion = audit(corpus, tmp_path, images=5)
    assert (figures["captions"], figures["sample"]) == (24, 5) and confusion["captions"].sum() == 2 * 5


def test_a_captioner_that_always_says_the_same_has_no_correlation(corpus, tmp_path):
    rows = [{"image_id": f"d/{i}", "description": "It is symmetrical."} for i in range(24)]
    write_table(tmp_path / "c.parquet", rows, CAPTIONS)
    figures, confusion = audit(corpus, tmp_path, tmp_path / "c.parquet")
    assert figures["spearman_asymmetry"] is None and figures["n_border"] == 0
    assert figures["exact_repeats"] == pytest.approx(23 / 24) and figures["mentions_border"] == 0
    border = confusion[confusion["attribute"] == "border"].groupby("claimed")["captions"].sum()
    assert border["not mentioned"] == 24


def test_a_captioner_that_gave_up_everywhere_is_counted_as_failed(corpus, tmp_path):
    write_table(tmp_path / "c.parquet", [{"image_id": "d/1", "error": "refused"}], CAPTIONS)
    figures, _ = audit(corpus, tmp_path, tmp_path / "c.parquet")
    assert figures["failed"] == 1 and figures["captions"] == 1 and figures["colors_jaccard"] is None


def test_contradictions_are_counted_by_label(reader):
    mixed = pd.concat([texts("A benign mole.", "A malignant mole."), texts("A malignant mole.", label="malignant")])
    assert text_figures(mixed, reader)["label_contradictions"] == pytest.approx(1 / 3)


def test_length_is_in_words_and_missing_descriptions_are_left_out(reader):
    figures = text_figures(texts("one two three", "one two three four five", None), reader)
    assert figures["words_median"] == 4 and figures["failed"] == pytest.approx(1 / 3)


def test_exact_repeats_ignore_case_and_spaces(reader):
    assert text_figures(texts("A smooth border.", "a  smooth border. ", "A mole."), reader)[
        "exact_repeats"
    ] == pytest.approx(1 / 3)


def test_near_repeats_are_found_and_different_texts_are_not():
    other = "an uneven patch of pigment with a jagged outline whose hues run from black to red and white near the rim"
    assert near_repeats([LONG, LONG + " today", other]) == 1
    assert near_repeats([LONG, other]) == near_repeats([]) == 0


def test_distinct_ngrams_fall_with_repetition():
    assert distinct_ngrams(["a b c", "a b d"], 1) == 4 / 6
    assert distinct_ngrams(["a b c", "a b d"], 2) == 3 / 4
    assert distinct_ngrams(["a b c"], 3) == 1


def test_the_figures_are_worded_for_people_also_where_there_are_none(corpus, tmp_path):
    rows = dict(readable(audit(corpus, tmp_path)[0]))
    assert rows["mentions border"] == "100.0%" and rows["captions"] == "24"
    assert rows["border: Spearman's ρ with the measured"].endswith("(n = 24)")
    same = [{"image_id": f"d/{i}", "description": "It is symmetrical."} for i in range(24)]
    write_table(tmp_path / "c.parquet", same, CAPTIONS)
    rows = dict(readable(audit(corpus, tmp_path, tmp_path / "c.parquet")[0]))
    assert rows["asymmetry: Spearman's ρ with the measured"] == "undefined (n = 24)"
    assert readable({"captions": 3, "failed": 1}) == [("captions", "3"), ("without a description", "100.0%")]
