import pytest

from conftest import painted_rows
from dermaflux import caption_gate
from dermaflux.caption_gate import compare, similarity, verify_captioner
from dermaflux.caption_replies import Reply
from dermaflux.errors import UserError
from dermaflux.files import read_json
from dermaflux.tables import IMAGES, write_table


def test_texts_are_compared_word_by_word():
    assert similarity("a b c d", "a b c d") == 1 and similarity("a b", "c d") == 0
    assert similarity("a b c d", "a x c d") == 0.75
    assert compare(["a b", "a b"], ["a b", "a c"]) == {"identical": 0.5, "similarity": 0.75}


class FakeServer:
    def __init__(self, model, settings, log):
        self.log = log

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


class FakeReference:
    def __init__(self, *_):
        pass

    def ask(self, jpeg, prompt, **_):
        return Reply("a brown and round mole")


@pytest.fixture
def verify(tmp_path, monkeypatch):
    """Verify with a server that says `single` one at a time and `at_once` to many."""
    shards = []
    for i in range(3):
        write_table(tmp_path / f"{i}.parquet", painted_rows(6, i, prefix=f"d{i}"), IMAGES)
        shards.append(tmp_path / f"{i}.parquet")

    def run(single, at_once, images=shards, tolerance=0.1):
        async def ask_server(server, rows, prompt, sampling, in_flight):
            run.rows = [row["image_id"] for row in rows]
            return [single if in_flight == 1 else at_once] * len(rows)

        monkeypatch.setattr(caption_gate, "_ask_server", ask_server)
        settings = {"command": ["vllm"], "max_tokens": 20, "in_flight": 8}
        verify_captioner(
            images, tmp_path / "gate.json", settings, {"max_tokens": 20}, "A {label} lesion.", 0, 5, tolerance, "m", "r",
            tmp_path, "cpu", "fp32",
        )  # fmt: skip
        return read_json(tmp_path / "gate.json")

    monkeypatch.setattr(caption_gate, "VllmServer", FakeServer)
    monkeypatch.setattr(caption_gate, "TransformersCaptioner", FakeReference)
    monkeypatch.setattr(caption_gate, "vllm_version", lambda command: "0.10.2")
    run.shards = shards
    return run


def test_a_server_that_says_the_same_passes(verify):
    verdict = verify("a brown and round mole", "a brown and round mole")
    assert verdict["images"] == 5 and verdict["vllm"] == "0.10.2" and verdict["revision"] == "r"
    assert list(verdict["comparisons"]) == ["one at a time against transformers", "many at once against one at a time"]
    assert all(found == {"identical": 1.0, "similarity": 1.0} for found in verdict["comparisons"].values())


def test_small_differences_are_tolerated(verify):
    assert verify("a brown and oval mole", "a brown and oval mole", tolerance=0.25)


@pytest.mark.parametrize(
    "single, at_once, message",
    [
        ("something else", "something else", "one at a time against transformers.*does not compute what the model is"),
        (
            "a brown and round mole",
            "noise",
            "many at once against one at a time.*Batching changes what the server says",
        ),
    ],
)
def test_larger_ones_stop_the_run_and_say_what_to_do(verify, tmp_path, single, at_once, message):
    with pytest.raises(UserError, match=f"(?s){message}.*d[012]/") as error:
        verify(single, at_once)
    assert "`caption.gate.tolerance: 0.1` wants 0.900" in str(error.value)
    assert not (tmp_path / "gate.json").exists()


def test_the_images_are_drawn_by_their_ids_whatever_the_order_of_shards(verify):
    verify("a brown and round mole", "a brown and round mole")
    drawn = verify.rows
    verify("a brown and round mole", "a brown and round mole", images=verify.shards[::-1])
    assert verify.rows == drawn and len({id.split("/")[0] for id in drawn}) > 1
