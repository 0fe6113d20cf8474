import json

import pytest

from chat_stub import TEXTS
from dermaflux.caption_replies import BadReply, Reply, check_reply, contradicts, reply_schema, response_format

ATTRIBUTES = ("asymmetry", "border", "color")


def check(text, label="benign", finish="stop", **more):
    return check_reply(Reply(text, finish, 10, 20, **more), label, ATTRIBUTES)


def texts(**changed):
    return json.dumps(TEXTS | changed)


def test_the_schema_asks_for_a_text_per_attribute_and_a_description():
    schema = reply_schema(("form", "hue"))
    assert schema["required"] == list(schema["properties"]) == ["form", "hue", "description"]
    assert not schema["additionalProperties"]
    sent = response_format(("form", "hue"))
    assert sent["type"] == "json_schema" and sent["json_schema"]["schema"] == schema


def test_a_good_reply_gives_its_texts_with_single_spaces():
    assert check(texts(color="It  is\n brown.")) == TEXTS


@pytest.mark.parametrize("around", ["```json\n{}\n```", "Here is the description: {} I hope it helps."])
def test_json_is_found_inside_words_and_fences(around):
    assert check(around.replace("{}", texts())) == TEXTS


def test_control_characters_in_strings_are_taken_for_spaces():
    assert check(texts().replace("brown", "light\tbrown"))["color"] == "It is light brown."


REPETITIVE = "the mole is brown and " * 12
BAD = {
    "empty": [("", "stop"), ("  \n", "stop"), (texts(border=" "), "stop"), ("", "content_filter")],
    "truncated": [(texts()[:-20], "length")],
    "refusal": [
        ("I'm sorry, but I can't assist with that.", "stop"),
        (texts(description="As an AI, I do not describe medical images."), "stop"),
        (texts(description="I cannot provide a medical diagnosis."), "stop"),
    ],
    "malformed": [
        ("The mole is brown.", "stop"),
        ('{"asymmetry": "none"}', "stop"),
        (texts(color=5), "stop"),
        ("[1, 2]", "stop"),
        (texts()[:-5], "stop"),
    ],
    "repetitive": [
        (texts(description=REPETITIVE), "stop"),
        ('{"asymmetry": "' + "no no " * 30, "length"),
    ],
    "contradiction": [(texts(description="A malignant melanoma."), "stop")],
}


@pytest.mark.parametrize("kind, text, finish", [(kind, *its) for kind, cases in BAD.items() for its in cases])
def test_unusable_replies_are_told_apart(kind, text, finish):
    with pytest.raises(BadReply) as error:
        check(text, finish=finish)
    assert error.value.kind == kind


def test_a_request_that_was_refused_is_no_reply():
    with pytest.raises(BadReply, match="rejected: HTTP 400: cannot identify image"):
        check("", refused="HTTP 400: cannot identify image")


@pytest.mark.parametrize(
    "text, label, expected",
    [
        ("The lesion looks malignant.", "benign", True),
        ("The lesion looks malignant.", "malignant", False),
        ("The lesion is not malignant.", "benign", False),
        ("The lesion is not malignant.", "malignant", True),
        ("It isn't benign.", "benign", True),
        ("There are no signs of malignancy.", "benign", False),
        ("A benign rather than malignant mole.", "benign", False),
        ("A harmless mole.", "malignant", True),
        ("A non-cancerous mole.", "malignant", True),
        ("A biopsy may rule out malignancy.", "benign", False),
        ("Not large, but malignant.", "benign", True),
        ("Dark and round.", "benign", False),
    ],
)
def test_a_contradiction_minds_negations(text, label, expected):
    assert contradicts(text, label) == expected
