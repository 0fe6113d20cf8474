"""The captioner against the real vLLM server, on a tiny random model. Its texts mean nothing: only the plumbing is tested."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from conftest import ROOT, painted_rows
from dermaflux import vllm_server
from dermaflux.caption_asking import Progress, Question, ask_server, who_answers
from dermaflux.caption_cache import ReplyCache
from dermaflux.caption_replies import response_format
from dermaflux.chat_client import ChatClient, image_message, work_through
from dermaflux.errors import UserError
from dermaflux.files import read_json
from dermaflux.tables import IMAGES, read_frame, write_table
from dermaflux.toy_vlm import SERVE, build_vlm
from dermaflux.transformers_captioner import TransformersCaptioner
from dermaflux.vllm_server import VllmServer
from workflow import fresh_clone, planned, snakemake

pytestmark = pytest.mark.vllm
COMMAND = [str(ROOT / ".venv-vllm/bin/vllm")]
ATTRIBUTES = ("asymmetry", "border", "color")
PROMPT = "This is an image containing a {label} lesion. Describe its asymmetry, border and color."
ANSWERED = '"POST /v1/chat/completions HTTP/1.1" 200'  # in the server's log
# several servers and tests share two cores
CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}


def settings(**changed):
    base = {
        "backend": "vllm", "temperature": 0.0, "max_tokens": 400, "attempts": 6, "in_flight": 8, "reply_timeout": 60.0,
        "command": COMMAND, "arguments": list(SERVE), "start_timeout": 180.0,
    }  # fmt: skip
    return base | changed


@pytest.fixture(scope="module", autouse=True)
def few_threads():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CPU.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    build_vlm(folder)
    return folder


@pytest.fixture(scope="module")
def server(model, tmp_path_factory, few_threads):
    with VllmServer(model, settings(reply_timeout=8.0), tmp_path_factory.mktemp("server") / "server.log") as running:
        yield running


def group_is_gone(group, seconds=10):
    """Whether all processes of a process group have ended within `seconds`."""
    for _ in range(int(seconds * 10)):
        listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True).stdout.splitlines()
        if not any(line.split()[0] == str(group) and "Z" not in line.split()[1] for line in listed):
            return True
        time.sleep(0.1)
    return False


def ask(server, rows, in_flight, endpoint=None, **fields):
    """The replies to `rows`, in their order."""
    replies = {}

    async def main():
        async with ChatClient(endpoint or server.endpoint, in_flight, 60) as client:

            async def work(row):
                message = image_message(PROMPT.format(label=row["label"]), row["image"]["bytes"])
                replies[row["image_id"]] = await client.ask(message, temperature=0.0, seed=0, max_tokens=400, **fields)

            await work_through(rows, work, in_flight)

    asyncio.run(main())
    return [replies[row["image_id"]] for row in rows]


def test_json_is_enforced_and_many_at_once_say_what_one_at_a_time_says(server):
    rows, form = painted_rows(32, "json"), response_format(ATTRIBUTES)
    single = ask(server, rows, 1, response_format=form)
    assert all(list(json.loads(reply.text)) == [*ATTRIBUTES, "description"] for reply in single)
    assert len({reply.text for reply in single}) > 24  # the image is looked at
    for in_flight in (8, 32):
        assert ask(server, rows, in_flight, response_format=form) == single


def test_the_server_says_what_transformers_says(server, model):
    rows = painted_rows(6, "same")
    reference = TransformersCaptioner(model, "cpu", "fp32")
    for row, served in zip(rows, ask(server, rows, 6), strict=True):
        prompt = PROMPT.format(label=row["label"])
        assert reference.ask(row["image"]["bytes"], prompt, temperature=0.0, seed=0, max_tokens=400) == served


def test_a_wrong_key_is_named_and_ours_is_shown_nowhere(server):
    wrong = replace(server.endpoint, key="not-the-key")
    with pytest.raises(UserError, match=r"does not accept our own key \(HTTP 401"):
        ask(server, painted_rows(1, "key"), 1, endpoint=wrong)
    listed = subprocess.run(["ps", "-ww", "-eo", "args="], capture_output=True, text=True).stdout
    assert server.endpoint.model in listed and server.endpoint.key not in listed
    assert server.endpoint.key not in server.log.read_text()


def run(server, rows, folder, in_flight=8):
    """The verdicts on `rows`, asked of a server that runs already; replies are kept in `folder`."""
    question = Question(PROMPT, "", ATTRIBUTES, 0, 6, 0.0, 0.7, 400, {"vllm": "of the tests"})
    progress = Progress("shard", len(rows), len(rows))
    with ReplyCache(folder / "replies.jsonl") as replies:
        ask_server(rows, question, replies, server, in_flight, progress)
        return [question.verdict(row, replies) for row in rows]


def test_a_corrupt_image_is_quarantined_and_the_server_goes_on(server, tmp_path):
    rows = painted_rows(6, "corrupt")
    rows[2]["image"]["bytes"] = rows[2]["image"]["bytes"][:300]
    rows[4]["image"]["bytes"] = b"no image at all"
    verdicts = run(server, rows, tmp_path)
    assert [verdict.texts is None for verdict in verdicts] == [False, False, True, False, True, False]
    assert str(verdicts[2].reasons[0]).startswith("rejected: HTTP 400") and len(verdicts[2].reasons) == 1
    assert server.restarts == 0


def count_lines(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


def when_answered(server, count, action):
    """Do `action` as soon as the server has answered `count` further requests; returns the thread that waits for it."""
    before = server.log.read_text().count(ANSWERED)

    def wait():
        while server.log.read_text().count(ANSWERED) < before + count:
            time.sleep(0.01)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGSTOP"], ids=["killed", "hung"])
def test_a_server_that_dies_or_hangs_mid_shard_is_replaced_and_nothing_is_asked_twice(server, tmp_path, signal_name):
    rows, restarts, group = painted_rows(64, signal_name), server.restarts, server.process_group
    answered = server.log.read_text().count(ANSWERED)
    thread = when_answered(server, 20, lambda: os.killpg(group, getattr(signal, signal_name)))
    verdicts = run(server, rows, tmp_path)
    thread.join()
    assert server.restarts == restarts + 1 and group_is_gone(group)
    assert all(verdict.texts for verdict in verdicts)
    asked = server.log.read_text().count(ANSWERED) - answered
    # beyond what was kept, at most those whose answers were on their way when it stopped
    assert 64 <= count_lines(tmp_path / "replies.jsonl") <= asked <= count_lines(tmp_path / "replies.jsonl") + 8


JOB = """
import json, sys
from dermaflux.captions import caption_shard
caption_shard(**json.loads(sys.argv[1]))
"""


def caption_job(folder, model, images):
    """A caption job of a process of its own."""
    values = {
        "images": str(images), "output": str(folder / "captions.parquet"), "captioner": "tiny", "settings": settings(),
        "revision": "r", "prompt": PROMPT, "template": "A {label} lesion. {description}", "seed": 0, "what": "shard",
        "reply": "", "attributes": ATTRIBUTES, "retry_temperature": 0.7, "bad_share": 0.1, "state": str(folder / "state"),
        "model": str(model),
    }  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", JOB, json.dumps(values)], cwd=ROOT / "workflow_scripts")


def test_a_job_that_is_killed_mid_shard_leaves_no_server_and_asks_only_for_the_rest(model, tmp_path):
    write_table(tmp_path / "images.parquet", painted_rows(160, "job"), IMAGES)
    replies, log = tmp_path / "state/replies.jsonl", tmp_path / "state/server.log"
    job = caption_job(tmp_path, model, tmp_path / "images.parquet")
    while count_lines(replies) < 60 and job.poll() is None:
        time.sleep(0.02)
    (guard,) = [
        int(line.split()[0])
        for line in subprocess.run(["ps", "-eo", "pgid=,ppid="], capture_output=True, text=True).stdout.splitlines()
        if line.split()[1] == str(job.pid)
    ]
    job.kill()
    assert job.wait() == -signal.SIGKILL and not (tmp_path / "captions.parquet").exists()
    assert group_is_gone(guard)
    kept, answered = count_lines(replies), log.read_text().count(ANSWERED)
    assert 60 <= kept < 160
    assert caption_job(tmp_path, model, tmp_path / "images.parquet").wait() == 0
    assert log.read_text().count(ANSWERED) - answered == count_lines(replies) - kept  # and none of the kept ones
    frame = read_frame(tmp_path / "captions.parquet")
    assert len(frame) == 160 and frame["error"].isna().all()
    before = log.stat().st_size
    assert caption_job(tmp_path, model, tmp_path / "images.parquet").wait() == 0
    assert log.stat().st_size == before  # all is answered: no server is started


class _Impostor(BaseHTTPRequestHandler):
    """Another server that calls itself healthy and lists a model."""

    def do_GET(self):
        data = json.dumps({"data": [{"id": "another model"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextmanager
def impostor():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Impostor) as taken:
        threading.Thread(target=taken.serve_forever, daemon=True).start()
        yield taken.server_port
        taken.shutdown()


def test_a_port_that_somebody_else_took_is_left_to_them(model, tmp_path, monkeypatch):
    free = vllm_server.free_port
    with impostor() as taken:
        ports = [taken]
        monkeypatch.setattr(vllm_server, "free_port", lambda: ports.pop() if ports else free())
        with VllmServer(model, settings(), tmp_path / "server.log") as running:
            assert f":{taken}/" not in running.endpoint.url and not ports
            assert ask(running, painted_rows(1, "port"), 1)[0].refused is None
            group = running.process_group
    assert group_is_gone(group)


def test_a_model_that_cannot_be_loaded_is_an_error_with_the_servers_own_words(model, tmp_path):
    with (
        pytest.raises(UserError, match=r"nowhere holds no model \(no config.json\)"),
        VllmServer(tmp_path / "nowhere", settings(), tmp_path / "server.log"),
    ):
        pass
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "config.json").write_text('{"model_type": "no_such_type"}')
    with (
        pytest.raises(UserError, match="(?s)ended while it started.*no_such_type"),
        VllmServer(broken, settings(), tmp_path / "server.log"),
    ):
        pass


def test_a_server_that_is_not_ready_in_time_is_stopped(model, tmp_path):
    with (
        pytest.raises(UserError, match="was not ready after 1 s"),
        VllmServer(model, settings(start_timeout=1.0), tmp_path / "server.log"),
    ):
        pass


def test_the_version_is_known_without_a_server():
    assert who_answers(settings(), "r") == {"revision": "r", "vllm": "0.32.0+cpu", "arguments": list(SERVE)}


OVERLAY = {
    "datasets": ["med_node"],
    "manifest": {"test_sets": []},
    "models": {"vlm": "demo:vlm"},
    "captioners": {
        "tiny": settings(model="vlm"),
        "tiny_in_process": {
            "backend": "transformers",
            "model": "vlm",
            "temperature": 0.0,
            "max_tokens": 200,
            "attempts": 3,
        },
    },
    "caption": {"captioner": "tiny", "gate": {"reference": "tiny_in_process", "images": 8, "tolerance": 0.0}},
}


def test_the_workflow_verifies_the_server_and_captions_a_shard_with_it(tmp_path):
    clone = fresh_clone(tmp_path)
    Path(clone, "overlay.json").write_text(json.dumps(OVERLAY))
    target = "results/demo/captions/med_node/0.parquet"
    files = ("config/demo.yaml", "overlay.json")
    snakemake(clone, "--profile", "profiles/demo", "--configfile", *files, "--cores", 2, "--", target)
    gate = read_json(clone / "results/demo/captions/gate.json")
    assert gate["images"] == 8 and gate["vllm"] == "0.32.0+cpu"
    assert all(found == {"identical": 1.0, "similarity": 1.0} for found in gate["comparisons"].values())
    frame = read_frame(clone / target)
    assert len(frame) > 20 and frame["caption"].notna().all() and set(frame["captioner"]) == {"tiny"}
    overlay = OVERLAY | {"captioners": OVERLAY["captioners"] | {"tiny": settings(model="vlm", in_flight=4)}}
    Path(clone, "overlay.json").write_text(json.dumps(overlay))
    # another pace is verified, and no caption that is there is made again
    assert planned(clone, target, "--profile", "profiles/demo", "--configfile", *files) == {"verify_captioner": 1}
    logs = [path.read_text() for path in (clone / "results/demo/logs").rglob("*.log")]
    assert not any("VLLM_API_KEY" in text for text in logs)
