import pytest
import yaml

from conftest import ROOT
from dermaflux.caption_words import CaptionReader
from dermaflux.captions import describe
from dermaflux.closed import ConfigError
from dermaflux.measure import Attributes

ENGLISH = ROOT / "config/caption_words.yaml"


@pytest.fixture(scope="module")
def reader():
    return CaptionReader(ENGLISH)


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("The mole in the image is symmetrical.", 0),
        ("It is slightly asymmetrical.", 1),
        ("The lesion is asymmetrical, with one half larger than the other.", 2),
        ("It is not asymmetrical.", 0),
        ("There are no signs of asymmetry.", 0),
        ("Asymmetry is absent.", 0),
        ("It is not symmetrical and has smooth edges.", 2),
        ("The lesion lacks symmetry.", 2),
        ("The shape is non-symmetrical.", 2),
        ("It is not perfectly symmetrical.", 1),
        ("**Asymmetry:** The mole is relatively symmetrical.", 0),
        ("In terms of asymmetry, the mole is symmetrical.", 0),
        ("Mostly symmetrical, but a slight asymmetry is visible below.", 1),
        ("The mole's asymmetry is minimal.", 0),
        ("One half does not match the other.", 2),
        ("Its two halves do not mirror each other, which suggests asymmetry.", 2),
        ("It has no clear centre, indicating asymmetry.", 2),
        ("The mole is round.", None),
        ("", None),
    ],
)
def test_asymmetry_is_graded(reader, text, grade):
    assert reader.grade(text, "asymmetry") == grade


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("Its border is smooth.", 0),
        ("Its border is slightly irregular.", 1),
        ("Its border is irregular and jagged.", 2),
        ("The edges are notched.", 2),
        ("It shows no irregular border.", 0),
        ("The lesion shows no asymmetry, border irregularity, or color variation.", 0),
        ("This mole does not exhibit any significant asymmetry or border irregularity.", 0),
        ("The borders are not irregular, and appear even.", 0),
        ("The border is smooth, with no irregularities.", 0),
        ("The border is smooth but jagged on one side.", 2),
        ("A smooth border and uneven color.", 0),
        ("A slightly asymmetrical, irregular border.", 2),
        ("The color is uneven.", None),
        ("The surface is smooth.", None),
        ("The border is well-defined.", None),
        ("The mole is irregular.", None),
    ],
)
def test_the_border_is_graded_where_the_word_is_about_the_border(reader, text, grade):
    assert reader.grade(text, "border") == grade


@pytest.mark.parametrize(
    ("text", "colors"),
    [
        ("Primarily light brown and black.", {"light brown", "black"}),
        ("A dark-brown centre with blue-gray areas and no white.", {"dark brown", "blue-gray"}),
        ("Varied shades of brown.", {"light brown", "dark brown"}),
        ("A reddish-brown mole.", {"dark brown"}),
        ("It is round.", set()),
    ],
)
def test_colours_are_read_by_their_measured_names(reader, text, colors):
    assert reader.colors_of(text) == colors


@pytest.mark.parametrize(
    ("text", "label", "contradicts"),
    [
        ("This photo depicts a benign lesion. It is smooth.", "benign", False),
        ("This malignant mole is smooth.", "benign", True),
        ("It is not malignant.", "benign", False),
        ("It is not malignant.", "malignant", True),
        ("There are no features that suggest malignancy.", "benign", False),
        ("It is not malignant but benign.", "benign", False),
        ("It is benign rather than malignant.", "benign", False),
        ("It could be malignant.", "benign", False),
        ("Typical of melanoma.", "benign", True),
        ("A non-malignant mole.", "malignant", True),
        ("A smooth mole.", "malignant", False),
    ],
)
def test_a_text_that_claims_the_other_label_is_found(reader, text, label, contradicts):
    assert reader.contradicts(text, label) == contradicts


def test_what_is_mentioned_is_more_than_what_is_graded(reader):
    assert reader.mentioned("The border is well-defined and the mole is tan.") == {"border", "color"}
    assert reader.mentioned("A symmetrical mole.") == {"asymmetry"}


@pytest.mark.parametrize(("asymmetry", "border"), [(0, 0), (1, 1), (2, 2), (0, 2)])
def test_the_measured_captions_are_read_as_they_were_meant(reader, asymmetry, border):
    values = {0: 0.01, 1: 0.2, 2: 0.9}
    colors = ("light brown", "blue-gray", "red")
    text = describe(Attributes(values[asymmetry], values[border], colors, 1.0, 0.2))["description"]
    assert (reader.grade(text, "asymmetry"), reader.grade(text, "border")) == (asymmetry, border)
    assert reader.colors_of(text) == set(colors)


def edited(folder, change):
    words = yaml.safe_load(ENGLISH.read_text())
    change(words)
    path = folder / "words.yaml"
    path.write_text(yaml.safe_dump(words))
    return path


def test_another_language_is_another_file(tmp_path):
    def german(words):
        words["negations"] = ["nicht", "kein", "keine"]
        words["attributes"]["asymmetry"] = {"nouns": [], "absent": ["symmetrisch"], "present": ["asymmetrisch"]}
        words["attributes"]["diameter"] = {"nouns": ["Durchmesser"], "absent": [], "present": []}

    reader = CaptionReader(edited(tmp_path, german))
    assert reader.grade("Das Mal ist nicht asymmetrisch.", "asymmetry") == 0
    assert reader.mentioned("Der Durchmesser ist groß.") == {"diameter"}


def test_words_that_lack_a_colour_or_an_attribute_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="must name exactly the measured colours: white, red"):
        CaptionReader(edited(tmp_path, lambda words: words["colors"].pop("red")))
    with pytest.raises(ConfigError, match="attributes: .*lacks border"):
        CaptionReader(edited(tmp_path, lambda words: words["attributes"].pop("border")))
