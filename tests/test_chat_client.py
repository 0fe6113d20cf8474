import asyncio
import base64
import time

import pytest

from chat_stub import chat_stub, completion
from dermaflux import chat_client
from dermaflux.chat_client import ChatClient, Endpoint, Unavailable, image_message, work_through
from dermaflux.errors import UserError

KEY = "sk-a-secret"


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(chat_client, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(chat_client, "LONGEST_DELAY", 0.05)


def ask(stub, count=1, in_flight=4, reply_timeout=5.0, url=None, **options):
    """The client, after `count` requests, and their replies."""
    replies = {}

    async def main():
        client = ChatClient(Endpoint(url or stub.url, "m", KEY, "the key in KEY"), in_flight, reply_timeout, **options)

        async def work(i):
            replies[i] = await client.ask(image_message(f"prompt {i}", b"jpeg"), temperature=0.0, seed=i)

        async with client:
            await work_through(range(count), work, in_flight)
        return client

    return asyncio.run(main()), [replies[i] for i in range(count)]


def test_a_request_carries_image_prompt_key_and_settings():
    with chat_stub() as stub:
        client, (reply,) = ask(stub)
    (sent,) = stub.asked
    assert sent["path"] == "/v1/chat/completions" and sent["headers"]["Authorization"] == f"Bearer {KEY}"
    image, text = sent["messages"][0]["content"]
    assert image["image_url"]["url"] == "data:image/jpeg;base64," + base64.b64encode(b"jpeg").decode()
    assert text["text"] == "prompt 0" and (sent["model"], sent["temperature"], sent["seed"]) == ("m", 0.0, 0)
    assert (reply.finish, reply.prompt_tokens, reply.completion_tokens) == ("stop", 100, 20)
    assert (client.requests, client.prompt_tokens, client.completion_tokens) == (1, 100, 20)


def test_so_many_requests_are_in_flight_and_no_more_items_are_taken():
    taken, done, ahead = [], [], []

    def answer(number, body):
        time.sleep(0.1)
        return completion()

    with chat_stub(answer) as stub:

        async def main():
            def items():
                for i in range(32):
                    taken.append(i)
                    ahead.append(len(taken) - len(done))
                    yield i

            async with ChatClient(Endpoint(stub.url, "m"), 8, 5.0) as client:

                async def work(i):
                    await client.ask(image_message("p", b""))
                    done.append(i)

                await work_through(items(), work, 8)

        asyncio.run(main())
    assert len(done) == 32 and stub.most == 8 and max(ahead) <= 8


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {"error": {"message": "broken"}}, {}),
        (503, b"", {}),
        (429, {"error": "slow down"}, {}),
        None,
        (200, b"<html>", {}),
        (200, {"choices": []}, {}),
    ],
    ids=["500", "503", "429", "hung up", "no JSON", "no choice"],
)
def test_troubles_that_pass_are_waited_out(trouble):
    with chat_stub(lambda number, body: trouble if number < 2 else completion("fine")) as stub:
        _, (reply,) = ask(stub)
    assert reply.text == "fine" and len(stub.asked) == 3


def test_retry_after_is_obeyed():
    with chat_stub(lambda number, body: completion() if number else (429, {}, {"Retry-After": "0.4"})) as stub:
        ask(stub)
    assert stub.asked[1]["time"] - stub.asked[0]["time"] >= 0.4


def test_a_request_without_an_answer_in_time_is_asked_again():
    def answer(number, body):
        if number == 0:
            time.sleep(1)
        return completion()

    with chat_stub(answer) as stub:
        ask(stub, reply_timeout=0.2)
    assert len(stub.asked) == 2


def test_patience_ends(monkeypatch):
    monkeypatch.setattr(chat_client, "TRIES", 3)
    with chat_stub(lambda number, body: (500, {"error": {"message": "broken"}}, {})) as stub:
        with pytest.raises(Unavailable, match="no answer after 3 tries; the last: HTTP 500: broken"):
            ask(stub)
        assert len(stub.asked) == 3
    with pytest.raises(Unavailable, match="ClientConnectorError"):
        ask(None, url=stub.url)


def test_a_request_that_is_wrong_is_not_repeated():
    with chat_stub(lambda number, body: (400, {"error": {"message": "cannot identify image"}}, {})) as stub:
        _, (reply,) = ask(stub)
    assert reply.refused == "HTTP 400: cannot identify image" and len(stub.asked) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_stops_everything_and_is_not_shown(status):
    says = {"error": {"message": f"Incorrect key {KEY}"}}
    expected = pytest.raises(UserError, match=r"does not accept the key in KEY \(HTTP 40\d: Incorrect key \(key\)")
    with chat_stub(lambda number, body: (status, says, {})) as stub, expected as error:
        ask(stub, count=20)
    assert KEY not in str(error.value) and len(stub.asked) <= 4


def test_the_key_is_in_no_representation():
    assert KEY not in repr(Endpoint("u", "m", KEY))


def test_an_unknown_model_stops_everything():
    expected = pytest.raises(UserError, match=r"\(model 'm'\) has no chat completions \(HTTP 404: no model m\)")
    with chat_stub(lambda number, body: (404, {"error": {"message": "no model m"}}, {})) as stub, expected:
        ask(stub)


def test_key_and_image_never_follow_a_redirect():
    with chat_stub() as elsewhere, chat_stub(lambda n, b: (307, {}, {"Location": elsewhere.url})) as stub:
        with pytest.raises(UserError, match="HTTP 307"):
            ask(stub)
        assert not elsewhere.asked


def test_the_rate_is_limited():
    with chat_stub() as stub:
        ask(stub, count=6, requests_per_minute=600)
    times = sorted(sent["time"] for sent in stub.asked)
    assert times[-1] - times[0] >= 0.45


def test_what_may_repair_the_endpoint_is_called_after_each_failure():
    called = []

    async def recover(began):
        called.append(began)

    with chat_stub(lambda number, body: (500, {}, {}) if number < 2 else completion()) as stub:
        ask(stub, recover=recover)
    assert len(called) == 2
