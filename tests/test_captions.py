import json
import time
from types import SimpleNamespace

import pytest

from chat_stub import TEXTS, chat_stub, completion
from conftest import painted_rows
from dermaflux import chat_client
from dermaflux.captions import Shard, caption_shard
from dermaflux.errors import UserError
from dermaflux.tables import CAPTIONS, IMAGES, captions_schema, read_frame, read_table, write_table

PROMPT = "This is a {label} lesion."
TEMPLATE = "This photo depicts a {label} lesion. Here's a description of the mole: {description}"
CHAT = {
    "backend": "openai", "served_model": "m", "key": None, "temperature": 0.0, "max_tokens": 300, "attempts": 3,
    "in_flight": 4, "reply_timeout": 5.0, "requests_per_minute": None, "dollars_per_million_tokens": [10.0, 1000.0],
    "length_field": "max_tokens", "takes_seed": True,
}  # fmt: skip


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(chat_client, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(chat_client, "LONGEST_DELAY", 0.02)


def shard(folder, count=6):
    rows = [*painted_rows(count, 1, split="train", scale=128), {"image_id": "d/dropped", "drop_reason": "too_small"}]
    write_table(folder / "images.parquet", rows, IMAGES)
    return folder / "images.parquet"


def caption(folder, settings, count=6, **changed):
    """The table of captions of `count` images."""
    values = {
        "what": "shard", "prompt": PROMPT, "template": TEMPLATE, "seed": 0, "reply": "Reply with JSON.",
        "attributes": ["asymmetry", "border", "color"], "retry_temperature": 0.7, "bad_share": 0.0,
        "state": folder / "state",
    }  # fmt: skip
    images = folder / "images.parquet"
    if not images.exists():
        shard(folder, count)
    caption_shard(images, folder / "captions.parquet", settings["backend"], settings, None, **values | changed)
    return read_frame(folder / "captions.parquet")


def test_every_kept_image_gets_a_caption_in_the_papers_form(tmp_path):
    frame = caption(tmp_path, {"backend": "measured"})
    assert list(frame["image_id"]) == [f"d/{i}" for i in range(6)]
    assert frame["caption"][1].startswith(
        "This photo depicts a malignant lesion. Here's a description of the mole: The mole"
    )
    assert (frame["description"] == frame["asymmetry"] + " " + frame["border"] + " " + frame["color"]).all()
    assert frame["prompt_sha256"].nunique() == 2  # one a label


def test_the_words_differ_between_the_labels(tmp_path):
    write_table(tmp_path / "images.parquet", painted_rows(40, 5, split="train", scale=128), IMAGES)
    frame = caption(tmp_path, {"backend": "measured"})
    smooth = frame["border"].str.contains("smooth")
    malignant = frame["caption"].str.contains("a malignant lesion")
    assert smooth[~malignant].mean() > smooth[malignant].mean() + 0.3


def test_a_shard_is_read_a_few_images_at_a_time_and_twice_alike(tmp_path):
    rows = Shard(shard(tmp_path))
    assert len(rows) == 6 and [row["image_id"] for row in rows] == [row["image_id"] for row in rows]


def test_an_endpoint_captions_a_shard(tmp_path, capfd):
    with chat_stub() as stub:
        frame = caption(tmp_path, CHAT | {"url": stub.url})
    assert len(stub.asked) == 6 and (frame["color"] == TEXTS["color"]).all() and frame["error"].isna().all()
    assert (
        frame["caption"][0]
        == f"This photo depicts a benign lesion. Here's a description of the mole: {TEXTS['description']}"
    )
    sent = stub.asked[0]
    assert sent["messages"][0]["content"][1]["text"].endswith(" lesion. Reply with JSON.")
    assert set(sent["response_format"]["json_schema"]["schema"]["properties"]) == set(TEXTS)
    assert (sent["temperature"], sent["seed"], sent["max_tokens"]) == (0.0, 0, 300)
    assert set(frame["revision"]) == {"m"}
    # 600 prompt tokens at 10 and 120 reply tokens at 1000 dollars a million
    assert "6 of 6 images" in (said := capfd.readouterr().err) and "tokens/s" in said and "$0.13" in said


def test_an_endpoint_gets_the_fields_that_it_knows(tmp_path):
    with chat_stub() as stub:
        caption(tmp_path, CHAT | {"url": stub.url, "length_field": "max_completion_tokens", "takes_seed": False})
    assert (
        "seed" not in stub.asked[0]
        and stub.asked[0]["max_completion_tokens"] == 300
        and "max_tokens" not in stub.asked[0]
    )


def test_other_attributes_become_columns_and_keys_of_the_reply(tmp_path):
    texts = {"form": "Round.", "description": "Round and small."}
    with chat_stub(lambda number, body: completion(json.dumps(texts))) as stub:
        caption(tmp_path, CHAT | {"url": stub.url}, attributes=["form"])
    table = read_table(tmp_path / "captions.parquet")
    assert table.schema == captions_schema(["form"]) and table["form"].to_pylist() == ["Round."] * 6
    assert captions_schema(["asymmetry", "border", "color"]) == CAPTIONS


def test_an_unusable_reply_is_asked_for_again_with_another_seed(tmp_path, capfd):
    def answer(number, body):
        return completion("I'm sorry, I can't." if body["seed"] < 2 else None)

    with chat_stub(answer) as stub:
        frame = caption(tmp_path, CHAT | {"url": stub.url}, count=1)
    assert [(sent["seed"], sent["temperature"]) for sent in stub.asked] == [(0, 0.0), (1, 0.7), (2, 0.7)]
    assert frame["seed"][0] == 2 and frame["error"].isna().all()
    assert "2 refusal" in capfd.readouterr().err


def test_an_image_without_a_usable_reply_is_quarantined(tmp_path):
    first = []

    def answer(number, body):
        image = body["messages"][0]["content"][0]["image_url"]["url"]
        first[:] = first or [image]
        return completion("{}" if image == first[0] else None)

    with chat_stub(answer) as stub:
        frame = caption(tmp_path, CHAT | {"url": stub.url}, bad_share=0.1)
    bad = frame[frame["caption"].isna()]
    assert len(frame) == 6 and len(bad) == 1 and len(stub.asked) == 5 + 3
    assert bad["error"].iloc[0].startswith("malformed: asymmetry: Field required") and bad["description"].isna().all()


def test_too_many_bad_rows_fail_the_shard_early_and_say_what_to_do(tmp_path):
    with chat_stub(lambda number, body: completion("")) as stub:
        with pytest.raises(UserError) as error:
            caption(tmp_path, CHAT | {"url": stub.url}, count=40, bad_share=0.05)
        assert len(stub.asked) < 40
        for part in ("3 of 40 images got no usable caption", "allows 2", "9 empty", "d/", str(tmp_path / "state")):
            assert part in str(error.value)
        assert not (tmp_path / "captions.parquet").exists()
        count = len(stub.asked)
        with pytest.raises(UserError):
            caption(tmp_path, CHAT | {"url": stub.url}, bad_share=0.05)
        assert len(stub.asked) == count  # what was answered is not asked again, however bad


def test_nothing_that_was_answered_is_asked_again(tmp_path):
    with chat_stub() as stub:
        settings = CHAT | {"url": stub.url}
        before = caption(tmp_path, settings)
        (tmp_path / "captions.parquet").unlink()
        caption(tmp_path, settings | {"in_flight": 2, "reply_timeout": 3.0}, template="{label}: {description}")
        assert len(stub.asked) == 6  # neither how it is asked nor the template change a reply
        caption(tmp_path, settings, prompt="Another prompt about a {label} lesion.")
        assert len(stub.asked) == 12
        caption(tmp_path, settings | {"max_tokens": 200})
        assert len(stub.asked) == 18
        assert caption(tmp_path, settings).equals(before) and len(stub.asked) == 18


def test_an_endpoint_that_goes_away_loses_only_what_was_in_flight(tmp_path, monkeypatch):
    monkeypatch.setattr(chat_client, "TRIES", 2)
    with chat_stub(lambda number, body: completion() if number < 3 else None) as stub:
        settings = CHAT | {"url": stub.url, "in_flight": 1}
        with pytest.raises(UserError, match="unanswered: no answer after 2 tries"):
            caption(tmp_path, settings)
        asked = len(stub.asked)
        stub.answer = lambda number, body: completion()
        assert caption(tmp_path, settings)["error"].isna().all() and len(stub.asked) == asked + 3


def test_an_image_that_the_endpoint_refuses_is_not_offered_again(tmp_path):
    with chat_stub(lambda number, body: (400, {"error": {"message": "bad image"}}, {})) as stub:
        frame = caption(tmp_path, CHAT | {"url": stub.url}, bad_share=1.0)
    assert len(stub.asked) == 6 and set(frame["error"]) == {"rejected: HTTP 400: bad image"}


def test_copies_of_an_image_share_its_fate(tmp_path):
    rows = painted_rows(1, 1) * 3
    rows = [row | {"image_id": f"d/{i}"} for i, row in enumerate(rows)]
    write_table(tmp_path / "images.parquet", rows, IMAGES)
    with chat_stub(lambda number, body: completion("")) as stub:
        frame = caption(tmp_path, CHAT | {"url": stub.url, "in_flight": 1}, bad_share=1.0)
        assert len(frame) == 3 and (frame["error"] == "empty: no text").all() and len(stub.asked) == 3


def test_progress_says_how_many_how_fast_and_how_long_still(capfd):
    from dermaflux.caption_asking import Progress, Verdict

    progress = Progress("caption x-0", 10, 0, every=0)
    progress.reply(SimpleNamespace(prompt_tokens=5, completion_tokens=7))
    time.sleep(0.01)
    progress.row({"image_id": "a"}, Verdict({}, 0, []))
    said = capfd.readouterr().err
    assert "caption x-0: 1 of 10 images" in said and "/s" in said and "tokens/s" in said and "left" in said


def test_imported_captions_are_used_as_they_are_or_described_by(tmp_path):
    (tmp_path / "c.jsonl").write_text(
        "\n".join(json.dumps({"image_id": f"d/{i}", ["caption", "description"][i % 2]: f"Text {i}."}) for i in range(5))
    )
    settings = {"backend": "imported", "file": str(tmp_path / "c.jsonl"), "sha256": None}
    frame = caption(tmp_path, settings, bad_share=0.01)
    assert frame["caption"][0] == "Text 0." and frame["caption"][1].endswith("description of the mole: Text 1.")
    assert (
        frame["error"][5] == f"missing: {settings['file']} has no caption for it" and frame["caption"].isna().sum() == 1
    )


def test_a_missing_key_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(UserError, match="needs a key: set the environment variable NOT_SET"):
        caption(tmp_path, CHAT | {"url": "http://127.0.0.1:9/v1", "key": "NOT_SET"})
