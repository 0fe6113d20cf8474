"""A `vllm serve` of one's own: on loopback, behind a random key, watched, restarted, and never left behind."""

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from dermaflux.chat_client import Endpoint
from dermaflux.errors import UserError
from dermaflux.job import duration, say

GUARD = Path(__file__).with_name("server_guard.py")
PORT_TRIES = 3  # somebody else may take a free port before vLLM has imported itself
FUTILE_RESTARTS = 3  # restarts without an answer in between, after which the server is given up
STOP_SECONDS = 15.0  # from TERM to KILL
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def find_command(command):
    """`command` (list of str) with its program's path: beside this Python, as in a conda environment, else on PATH.

    Raises:
        UserError: it is in neither.
    """
    program = Path(sys.executable).parent / command[0]  # an absolute path stays as it is
    found = str(program) if program.exists() else shutil.which(command[0])
    if found is None:
        raise UserError(
            f"{command[0]} is neither in {program.parent} nor on PATH. Run with conda (`sdm: conda` in the profile), which "
            "installs it from envs/caption.yaml, or set `command` of the captioner to where it is."
        )
    return [found, *command[1:]]


def vllm_version(command):
    """The version that `command` (list of str) serves, such as "0.10.2": part of what a reply depends on.

    Asked without a server, so that a shard whose replies are all there needs none.

    Raises:
        UserError: there is no such program, or it does not say.
    """
    done = subprocess.run([*find_command(command), "--version"], capture_output=True, text=True)
    lines = done.stdout.split()
    if done.returncode or not lines:
        raise UserError(f"`{command[0]} --version` failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return lines[-1]


def free_port():
    """A TCP port on loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class VllmServer:
    """Context manager: the server of the model in `folder` runs inside; `endpoint` says how to ask it.

    Args:
        folder: path of the model.
        settings: dict with command, arguments, start_timeout and reply_timeout (config.VllmCaptioner).
        log: path of the server's own log, which is continued, and which errors quote.

    Raises (entering it):
        UserError: no such command or model; or the server ends or is not ready in time, with the end of its log.
    """

    def __init__(self, folder, settings, log):
        self.folder, self.settings, self.log = Path(folder), settings, Path(log)
        self._process = self._pipe = self.endpoint = None
        self._repair, self._ready = threading.Lock(), 0.0  # when it last became ready (time.monotonic)
        self.restarts, self._futile = 0, 0

    def __enter__(self):
        if not (self.folder / "config.json").exists():
            raise UserError(
                f"{self.folder} holds no model (no config.json): delete it and run again, so that it is fetched again"
            )
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error):
        self.stop()

    @property
    def process_group(self):
        """Id of the process group of the server and all its helpers, or None while it is stopped."""
        return self._process.pid if self._process else None

    def start(self):
        """Start the server and wait until it answers."""
        for attempt in range(1, PORT_TRIES + 1):
            self._launch()
            trouble = self._wait_until_ready()
            if trouble is None:
                self._ready = time.monotonic()
                return
            self.stop()
            tail = self._log_tail()
            if "already in use" not in tail or attempt == PORT_TRIES:
                raise UserError(f"the vLLM server {trouble}. The end of its log, {self.log}:\n{tail}")
            say("vLLM: the port was taken meanwhile; another one")

    def _launch(self):
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # The random name is how we know that it is our server which answers, not one that has taken the port.
        key, name, port = secrets.token_urlsafe(24), f"caption-{secrets.token_hex(8)}", free_port()
        command = [
            *find_command(self.settings["command"]), "serve", str(self.folder), "--host", "127.0.0.1", "--port", str(port),
            "--served-model-name", name, *self.settings["arguments"],
        ]  # fmt: skip
        self.endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", name, key, "our own key")
        theirs, self._pipe = os.pipe()
        with open(self.log, "ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(GUARD), str(theirs), *command],
                env={**os.environ, **ENVIRONMENT, "VLLM_API_KEY": key},  # not in argv, which everybody can read
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs],
                start_new_session=True,
            )
        os.close(theirs)

    def _wait_until_ready(self):
        """None once the server answers, or what went wrong (str)."""
        began, limit = time.monotonic(), self.settings["start_timeout"]
        while time.monotonic() - began < limit:
            if not self.alive():
                return "ended while it started"
            if self._get("/health")[0] == 200 and self._serves_our_name():
                say(f"vLLM: ready after {duration(time.monotonic() - began)}")
                return None
            time.sleep(0.5)
        return f"was not ready after {limit:g} s (`start_timeout`)"

    def _get(self, path):
        """(status, body) of a GET; (0, b"") where nothing answers within 5 s."""
        connection = http.client.HTTPConnection(self.endpoint.url.split("/")[2], timeout=5)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.endpoint.key}"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def _serves_our_name(self):
        status, body = self._get("/v1/models")
        try:
            return status == 200 and self.endpoint.model in [model["id"] for model in json.loads(body)["data"]]
        except (ValueError, KeyError, TypeError):
            return False

    def alive(self):
        """Whether the server's process runs (which does not say that it answers)."""
        return self._process is not None and self._process.poll() is None

    def stop(self):
        """End the server and all its helpers: TERM, and after STOP_SECONDS KILL."""
        if self._process is None:
            return
        if self.alive():
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._pipe)
        self._process = None

    def recover(self, began, last_answer):
        """After a request that began at `began` has failed: restart the server if it is dead or hangs.

        It hangs if no reply at all has come for `reply_timeout`. Called by many threads at once, it acts once.

        Args:
            began, last_answer: times (time.monotonic) of the failed request's start and of the latest reply to any.

        Raises:
            UserError: FUTILE_RESTARTS restarts did not bring one answer.
        """
        with self._repair:
            if began < self._ready:
                return  # the predecessor of this server was asked
            silence = time.monotonic() - max(last_answer, self._ready)
            if self.alive() and silence < self.settings["reply_timeout"]:
                return  # it may be dying, or have only closed a connection: the next try will tell
            self._futile = 0 if last_answer > self._ready else self._futile + 1
            self._restart(f"has answered nothing for {duration(silence)}" if self.alive() else "has died")

    def _restart(self, what):
        self.stop()
        if self._futile >= FUTILE_RESTARTS:
            raise UserError(
                f"the vLLM server {what}, and {self._futile} restarts did not bring one answer. Set `arguments` of the "
                f"captioner to spare memory, say. The end of its log, {self.log}:\n{self._log_tail()}"
            )
        say(f"vLLM {what}: restarting it. The end of its log:\n{self._log_tail()}")
        self.restarts += 1
        self.start()

    def _log_tail(self, lines=30):
        with open(self.log, "rb") as log:
            log.seek(max(self._log_start, os.path.getsize(self.log) - 20_000))
            text = log.read().decode("utf-8", "replace").replace(self.endpoint.key, "(key)")
        return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:])
