"""Downloads against a real server on loopback that misbehaves in every way that servers do."""

import errno
import hashlib
import json
import re
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dermaflux import download
from dermaflux.download import download_archive
from dermaflux.errors import UserError

DATA = b"PK" + bytes(range(256)) * 4000  # looks like a zip, 1 MB
SHA256 = hashlib.sha256(DATA).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `data` at every path. `script` holds what to do at the next requests, by name; `seen` what was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.script, self.seen, self.etag, self.ranges = DATA, [], [], '"one"', True
        self.listing = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, address):
        pass


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        server.seen.append((self.path, dict(self.headers)))
        act = server.script.pop(0) if server.script else "serve"
        if isinstance(act, int):
            self.send_response(act)
            if act in (429, 503):
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if act.startswith("redirect "):
            self.send_response(302)
            self.send_header("Location", act.split()[1])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = json.dumps(server.listing).encode() if "persistentId" in self.path else server.data
        start, wanted = 0, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", server.etag) == server.etag
        if wanted and server.ranges and same:
            start = int(wanted[1])
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        body = body[start:]
        if act == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.connection.close()
        elif act == "stall":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            time.sleep(1.5)
        else:
            self.wfile.write(body)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(tmp_path, server, monkeypatch):
    """fetch(...) downloads the server's file; fetch.path, fetch.part and fetch.state say where things lie."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "no-kaggle"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-hf"))

    def run(source=None, **changes):
        options = {"timeout": 5, "attempts": 3, "backoff": 0.01, "pins": run.pins} | changes
        download_archive(source or f"{server.url}/a.zip", run.path, run.state, **options)

    run.path, run.state = tmp_path / "raw" / "a.zip", tmp_path / "state"
    run.part, run.pins = run.state / "a.zip.part", tmp_path / "pins"
    return run


def ranges(server):
    return [headers.get("Range") for _, headers in server.seen]


def test_a_file_arrives_whole_and_is_pinned(fetch, server):
    fetch()
    assert fetch.path.read_bytes() == DATA
    pin = json.loads((fetch.pins / "a.zip.json").read_text())
    assert (pin["sha256"], pin["bytes"], pin["url"]) == (SHA256, len(DATA), f"{server.url}/a.zip")
    assert list(fetch.state.iterdir()) == []


def test_a_cut_connection_is_resumed_where_it_broke_off(fetch, server):
    server.script = ["cut", "cut"]
    fetch(sha256=SHA256)
    half = len(DATA) // 2
    assert ranges(server)[:2] == [None, f"bytes={half}-"]
    assert fetch.path.read_bytes() == DATA


def test_many_cuts_are_survived_as_long_as_something_arrives(fetch, server):
    server.script = ["cut"] * 8
    fetch(attempts=2)
    assert fetch.path.read_bytes() == DATA


def test_a_killed_job_continues_with_what_had_come(fetch, server):
    fetch.state.mkdir()
    fetch.part.write_bytes(DATA[:1000])
    fetch()
    assert ranges(server) == ["bytes=1000-"]
    assert fetch.path.read_bytes() == DATA


def test_a_part_that_was_whole_already_is_used(fetch, server):
    fetch.state.mkdir()
    fetch.part.write_bytes(DATA)
    fetch(sha256=SHA256)
    assert fetch.path.read_bytes() == DATA


def test_a_part_longer_than_the_file_is_thrown_away(fetch, server):
    fetch.state.mkdir()
    fetch.part.write_bytes(DATA + b"more")
    fetch(sha256=SHA256)
    assert fetch.path.read_bytes() == DATA


def test_a_server_that_ignores_ranges_sends_everything_again(fetch, server):
    server.script, server.ranges = ["cut"], False
    fetch(sha256=SHA256)
    assert fetch.path.read_bytes() == DATA


def test_a_file_that_changed_between_two_tries_is_not_mixed(fetch, server):
    server.script = ["cut", 404]
    with pytest.raises(UserError):
        fetch()
    server.data, server.etag = DATA[::-1][:-2].join([b"PK", b""]), '"two"'
    fetch()
    assert fetch.path.read_bytes() == server.data


def test_a_stalled_connection_is_given_up_and_resumed(fetch, server):
    server.script = ["stall"]
    fetch(timeout=0.3)
    assert fetch.path.read_bytes() == DATA
    assert ranges(server)[1] is not None


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(fetch, server, status):
    server.script = [status, status]
    fetch()
    assert len(server.seen) == 3
    assert fetch.path.read_bytes() == DATA


def test_a_server_that_stays_busy_is_given_up(fetch, server):
    server.script = [503] * 10
    with pytest.raises(UserError, match="a.zip: .*answered 503.*given up after 3 tries. Run again later"):
        fetch()
    assert not fetch.path.exists()


def test_a_server_that_is_not_there_is_given_up(fetch):
    with pytest.raises(UserError, match="no connection to http://127.0.0.1:1/a.zip"):
        fetch("http://127.0.0.1:1/a.zip")


def test_404_fails_at_once_and_says_what_to_correct(fetch, server):
    server.script = [404]
    with pytest.raises(UserError, match="answered 404 Not Found. If the source has moved, correct `url`"):
        fetch()
    assert len(server.seen) == 1


@pytest.mark.parametrize(("access", "hint"), [("kaggle", "KAGGLE_USERNAME"), ("huggingface", "HF_TOKEN")])
def test_403_says_how_to_log_in(fetch, server, access, hint):
    server.script = [403]
    with pytest.raises(UserError, match=f"answered 403 .*access is denied.*{hint}"):
        fetch(access=access)


def test_a_wrong_checksum_names_both_and_deletes_what_came(fetch, server):
    with pytest.raises(UserError, match=f"a.zip is not the file .*expected SHA-256 {'0' * 64}, found {SHA256}"):
        fetch(sha256="0" * 64)
    assert not fetch.path.exists()
    assert not fetch.part.exists()


def test_a_wrong_size_names_both(fetch, server):
    with pytest.raises(UserError, match=f"expected 17 bytes, found {len(DATA):,}"):
        fetch(bytes=17)


def test_a_web_page_in_place_of_an_archive_is_refused(fetch, server):
    server.data = b"<!doctype html>Please log in"
    with pytest.raises(UserError, match="it is a web page"):
        fetch()
    assert not fetch.path.exists()


def test_a_pinned_file_that_changed_is_refused_until_the_pin_is_deleted(fetch, server):
    fetch()
    fetch.path.unlink()
    server.data = DATA + b"changed"
    with pytest.raises(
        UserError, match=f"expected SHA-256 {SHA256}, which it had when it was first downloaded"
    ) as error:
        fetch()
    assert f"delete the lock file {fetch.pins / 'a.zip.json'}" in str(error.value)
    (fetch.pins / "a.zip.json").unlink()
    fetch()
    assert fetch.path.read_bytes() == server.data


def test_a_full_disk_is_noticed_before_the_download(fetch, server, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match=r"a.zip: 1,024,002 bytes are still to come, but .* has 1,000 free"):
        fetch()


def test_a_disk_that_fills_up_keeps_what_has_come(fetch, server, monkeypatch):
    class FullDisk:
        def __init__(self, *args):
            self.file = open(*args)  # noqa: SIM115

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            self.file.write(data[:5000])
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download, "open", FullDisk, raising=False)
        with pytest.raises(UserError, match="a.zip: the disk of .* is full"):
            fetch()
    assert fetch.part.stat().st_size == 5000
    fetch(sha256=SHA256)
    assert ranges(server)[-1] == "bytes=5000-"


def test_a_token_is_sent_to_the_source_only_and_never_shown(fetch, server, monkeypatch, capfd):
    other = Server()
    threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.script = [f"redirect http://localhost:{other.server_port}/cdn?signature=hf_secret", 403]
    fetch(access="huggingface")
    assert server.seen[0][1]["Authorization"] == "Bearer hf_secret"
    assert "Authorization" not in other.seen[0][1]
    with pytest.raises(UserError) as error:
        fetch(f"{server.url}/a.zip?token=hf_secret".replace("//", "//user:hf_secret@"), access="huggingface")
    other.shutdown()
    assert "hf_secret" not in str(error.value) + "".join(capfd.readouterr())
    assert "hf_secret" not in "".join(
        path.read_text() for path in [*fetch.state.glob("*.json"), *fetch.pins.glob("*.json")]
    )


def test_kaggles_own_file_is_read(fetch, server, tmp_path, monkeypatch):
    (tmp_path / "kaggle.json").write_text(json.dumps({"username": "me", "key": "k"}))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    fetch(access="kaggle")
    assert server.seen[0][1]["Authorization"].startswith("Basic ")


def test_a_dataverse_file_is_found_by_its_name_and_checked_by_its_md5(fetch, server):
    file = {"id": 17, "filesize": len(DATA), "md5": hashlib.md5(DATA).hexdigest()}
    server.listing = {"data": {"latestVersion": {"files": [{"label": "a.zip", "dataFile": file}]}}}
    url = f"{server.url}/dataset.xhtml?persistentId=doi:10.1/X"
    fetch(url, access="dataverse")
    assert server.seen[1][0] == "/api/access/datafile/17"
    file["md5"] = "0" * 32
    with pytest.raises(UserError, match="expected MD5 0000"):
        fetch(url, access="dataverse")
    server.listing["data"]["latestVersion"]["files"][0]["label"] = "b.zip"
    with pytest.raises(UserError, match="has no file 'a.zip'; it has: b.zip"):
        fetch(url, access="dataverse")


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_local_mirror_is_copied_and_checked(fetch, tmp_path, scheme):
    (tmp_path / "mirror.zip").write_bytes(DATA)
    fetch(f"{scheme}{tmp_path}/mirror.zip", sha256=SHA256, access="mirror")
    assert fetch.path.read_bytes() == DATA
    with pytest.raises(UserError, match="expected SHA-256"):
        fetch(f"{scheme}{tmp_path}/mirror.zip", sha256="0" * 64, access="mirror")
    assert (tmp_path / "mirror.zip").exists()
    with pytest.raises(UserError, match="gone.zip does not exist.*Is the mirror complete"):
        fetch(f"{scheme}{tmp_path}/gone.zip")


def test_a_painted_archive_takes_the_sources_place(fetch, tmp_path):
    (tmp_path / "painted").mkdir()
    (tmp_path / "painted" / "a.zip").write_bytes(DATA)
    download_archive(None, fetch.path, fetch.state, painted=tmp_path / "painted", access="mirror")
    assert fetch.path.read_bytes() == DATA


def test_a_file_that_must_be_fetched_by_hand_says_where_and_how(fetch):
    manual = {"access": "manual", "page": "https://example.org/ddi", "instructions": "Sign the form."}
    with pytest.raises(UserError) as error:
        download_archive(None, fetch.path, fetch.state, **manual)
    by_hand = fetch.state / "manual" / "a.zip"
    assert f"Visit https://example.org/ddi . Sign the form. Then put the file at {by_hand}" in str(error.value)
    by_hand.parent.mkdir()
    by_hand.write_bytes(DATA)
    download_archive(None, fetch.path, fetch.state, pins=fetch.pins, **manual)
    assert fetch.path.read_bytes() == DATA
    by_hand.write_bytes(DATA + b"another version")
    with pytest.raises(UserError, match="which it had when it was first downloaded"):
        download_archive(None, fetch.path, fetch.state, pins=fetch.pins, **manual)


def test_a_repository_of_the_hub_becomes_one_zip_and_is_pinned(fetch, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    source = "hf://datasets/owner/pictures@main"
    fetch(source, access="huggingface")
    with zipfile.ZipFile(fetch.path) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "Benign/1.png": b"a picture",
            "Malignant/2.png": b"another",
        }
    first = fetch.path.read_bytes()
    fetch.path.unlink()
    fetch(source, access="huggingface")  # the same bytes, or the pin would refuse them
    assert fetch.path.read_bytes() == first and list(fetch.state.iterdir()) == []


def test_a_closed_repository_of_the_hub_says_where_to_ask(fetch, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    with pytest.raises(UserError, match="accept the licence on https://huggingface.co/datasets/owner/gated"):
        fetch("hf://datasets/owner/gated@main", access="huggingface")
    with pytest.raises(UserError, match="not of the form hf://datasets/OWNER/NAME@REVISION"):
        fetch("hf://datasets/owner/gated", access="huggingface")
