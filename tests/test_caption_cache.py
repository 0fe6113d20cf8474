import os
import signal
import subprocess
import sys

from conftest import ROOT
from dermaflux.caption_cache import ReplyCache, reply_key
from dermaflux.caption_replies import Reply


def test_replies_outlive_the_cache_and_are_found_by_their_key(tmp_path):
    path = tmp_path / "deep/replies.jsonl"
    with ReplyCache(path) as cache:
        cache.put(reply_key(image="a"), Reply("brown\nund grün", "stop", 1, 2))
        cache.put(reply_key(image="b"), Reply(refused="HTTP 400"))
    with ReplyCache(path) as cache:
        assert len(cache) == 2 and cache.get(reply_key(image="c")) is None
        assert cache.get(reply_key(image="a")) == Reply("brown\nund grün", "stop", 1, 2)
        cache.put(reply_key(image="c"), Reply("red"))
        assert cache.get(reply_key(image="b")).refused == "HTTP 400" and cache.get(reply_key(image="c")).text == "red"


def test_a_torn_line_costs_only_itself(tmp_path):
    path = tmp_path / "replies.jsonl"
    with ReplyCache(path) as cache:
        for name in "abc":
            cache.put(reply_key(image=name), Reply(name))
    os.truncate(path, path.stat().st_size - 10)
    with ReplyCache(path) as cache:
        assert [cache.get(reply_key(image=name)) for name in "abc"] == [Reply("a"), Reply("b"), None]
        cache.put(reply_key(image="d"), Reply("d"))
    with ReplyCache(path) as cache:
        assert len(cache) == 3 and cache.get(reply_key(image="d")) == Reply("d")


def test_what_was_put_survives_a_kill(tmp_path):
    code = (
        "import os, sys; from dermaflux.caption_cache import *; from dermaflux.caption_replies import Reply\n"
        "cache = ReplyCache(sys.argv[1]).__enter__()\n"
        "for i in range(100): cache.put(reply_key(i=i), Reply(str(i)))\n"
        "os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "replies.jsonl"
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT / "workflow_scripts")
    assert done.returncode == -signal.SIGKILL
    with ReplyCache(path) as cache:
        assert all(cache.get(reply_key(i=i)) == Reply(str(i)) for i in range(100))


def test_the_key_depends_on_all_of_the_request():
    base = {"image": "a", "prompt": "p", "sampling": {"seed": 0}}
    changed = [base | {"image": "b"}, base | {"prompt": "q"}, base | {"sampling": {"seed": 1}}]
    assert len({reply_key(**request) for request in [base, *changed]}) == 4
