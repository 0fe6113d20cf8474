"""Downloads that resume, retry, check what came, and never leave a part of a file under its final name.

What has arrived so far lies in a state folder that no rule declares, so that a killed job continues there. A file whose
checksum nobody publishes is pinned at its first download, in a lock file that is meant for git: a later download, here or
in another laboratory, must bring the same bytes.
"""

import email.utils
import errno
import os
import random
import re
import shutil
import time
import zipfile
from datetime import date
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from dermaflux.errors import UserError
from dermaflux.files import atomic_path, read_json, sha256_file, write_json
from dermaflux.hub import fetch_repository
from dermaflux.job import say

CHUNK_BYTES = 1 << 20
DISK_RESERVE_BYTES = 256 << 20  # left free beside the file
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP answers worth another try
LONGEST_WAIT_S = 120.0


class _TryAgain(Exception):
    """Something that may pass: a cut connection, a busy server. `wait` is what the server asked for, in seconds."""

    def __init__(self, message, wait=None):
        super().__init__(message)
        self.wait = wait


def _shown(url):
    """The URL without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _local_path(source):
    """The path that `source` names where it is a path or a file: URL, else None."""
    if source.startswith("file:"):
        return Path(unquote(urlsplit(source).path))
    return None if "://" in source else Path(source)


def _kaggle_login():
    """Headers and basic login for Kaggle, from the environment or the Kaggle client's own file."""
    if token := os.environ.get("KAGGLE_API_TOKEN"):
        return {"Authorization": f"Bearer {token}"}, None
    user, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    folder = Path(os.environ.get("KAGGLE_CONFIG_DIR", Path.home() / ".kaggle"))
    if not (user and key) and (folder / "kaggle.json").exists():
        login = read_json(folder / "kaggle.json")
        user, key = login.get("username"), login.get("key")
    return {}, (user, key) if user and key else None


def _hugging_face_login():
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    file = Path(os.environ.get("HF_TOKEN_PATH", home / "token"))
    if not token and file.exists():
        token = file.read_text().strip()
    return {"Authorization": f"Bearer {token}"} if token else {}, None


HOW_TO_LOG_IN = {
    "kaggle": "Create a token at https://www.kaggle.com/settings and save it as ~/.kaggle/kaggle.json, or set "
    "KAGGLE_USERNAME and KAGGLE_KEY.",
    "huggingface": "Accept the conditions on the page, then run `hf auth login` or set HF_TOKEN.",
    "dataverse": "Open the page and accept its conditions, if it has any.",
}


def login(access):
    """(headers, basic login or None) for a kind of access."""
    return {"kaggle": _kaggle_login, "huggingface": _hugging_face_login}.get(access, lambda: ({}, None))()


class _Remote:
    """A file on a server: its URL and how to ask for it."""

    def __init__(self, url, access, timeout):
        import requests  # not at the top: local sources need none of it

        self.requests, self.url, self.access, self.timeout = requests, url, access, timeout
        self.session = requests.Session()  # drops the login where a server sends us to another one
        self.headers, self.session.auth = login(access)

    def get(self, headers):
        """An open answer with status 200, 206 or 416.

        Raises:
            _TryAgain, UserError: by what the server says.
        """
        try:
            answer = self.session.get(
                self.url, headers={**self.headers, "Accept-Encoding": "identity", **headers}, stream=True,
                timeout=self.timeout,
            )  # fmt: skip
        except (self.requests.ConnectionError, self.requests.Timeout) as error:
            raise _TryAgain(f"no connection to {_shown(self.url)} ({type(error).__name__})") from None
        except self.requests.RequestException as error:
            raise UserError(f"{_shown(self.url)} cannot be asked for: {type(error).__name__}") from None
        if answer.status_code in (200, 206, 416):
            return answer
        said = f"{_shown(self.url)} answered {answer.status_code} {answer.reason}"
        if answer.status_code in PASSING:
            raise _TryAgain(said, _retry_after(answer.headers.get("Retry-After")))
        if answer.status_code in (401, 403):
            raise UserError(
                f"{said}: access is denied. {HOW_TO_LOG_IN.get(self.access, 'Open the page in a browser to see why.')}"
            )
        raise UserError(f"{said}. If the source has moved, correct `url` in the dataset's descriptor.")

    def find_in_dataverse(self, name):
        """Set the URL to that of the file `name` of a Dataverse dataset; return its (bytes, MD5) as Dataverse lists them.

        Source: Dataverse's native and data access APIs. Tables are listed in Dataverse's own tab-separated form.
        """
        parts = urlsplit(self.url)
        doi = parse_qs(parts.query)["persistentId"][0]
        self.url = f"{parts.scheme}://{parts.netloc}/api/datasets/:persistentId/?persistentId={doi}"
        answer = self.get({})
        try:
            files = [
                entry["dataFile"] | {"label": entry["label"]}
                for entry in answer.json()["data"]["latestVersion"]["files"]
            ]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{_shown(self.url)} did not answer with a list of files, as Dataverse does") from None
        for file in files:
            if name in (file["label"], file.get("filename")):
                self.url = f"{parts.scheme}://{parts.netloc}/api/access/datafile/{file['id']}"
                # of a table Dataverse gives size and MD5 of the original, not of the tab-separated form
                table = name.endswith(".tab")
                return (None, None) if table else (file.get("filesize"), file.get("md5"))
        raise UserError(f"{doi} on {parts.netloc} has no file {name!r}; it has: {', '.join(f['label'] for f in files)}")


def _retry_after(text):
    """Seconds that a Retry-After header asks for (a number or a date), or None."""
    if not text:
        return None
    if text.isdigit():
        return float(text)
    then = email.utils.parsedate_to_datetime(text) if email.utils.parsedate(text) else None
    return max(0.0, then.timestamp() - time.time()) if then else None


def _check_disk(folder, needed, name):
    free = shutil.disk_usage(folder).free
    if needed and needed + DISK_RESERVE_BYTES > free:
        raise UserError(
            f"{name}: {needed:,} bytes are still to come, but {folder} has {free:,} free. Free some space, or point "
            "`pathvars: results` at a larger disk; what has come so far is kept."
        )


def _range(part, note):
    """Headers that ask for what is missing after `part`, or for everything."""
    have = part.stat().st_size if part.exists() else 0
    if not have:
        return 0, {}
    headers = {"Range": f"bytes={have}-"}
    if validator := (read_json(note).get("validator") if note.exists() else None):
        headers["If-Range"] = validator  # the server sends everything again if its file has changed
    return have, headers


def _receive(remote, part, name, size):
    """One try: continue `part` as far as the connection carries. Returns when the file is whole."""
    note = part.with_name(f"{part.name}.json")
    have, headers = _range(part, note)
    answer = remote.get(headers)
    with answer:
        if answer.status_code == 416:
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(have):
                return
            part.unlink()
            raise _TryAgain("what had come is longer than the file; from the start again", 0)
        if answer.status_code == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise _TryAgain("the server sent another range than was asked for; from the start again", 0)
        if answer.status_code == 200:
            have = 0  # no ranges, or the file has changed
        coming = int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
        _check_disk(part.parent, coming or (size - have if size else None), name)
        etag = answer.headers.get("ETag", "")
        validator = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")
        write_json(note, {"validator": validator})
        _copy(answer, part, have, None if coming is None else have + coming, name)


def _copy(answer, part, have, total, name):
    """Append the answer's body to `part` (from `have` on), saying how it goes."""
    from urllib3.exceptions import HTTPError

    start, said, came = time.monotonic(), time.monotonic(), 0
    try:
        with open(part, "r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            while chunk := answer.raw.read1(CHUNK_BYTES):  # what is there, so that a broken connection loses nothing
                file.write(chunk)
                came += len(chunk)
                now = time.monotonic()
                if now - said > 10:
                    said = now
                    _say_progress(name, have + came, total, came / (now - start))
    except HTTPError as error:
        raise _TryAgain(f"the connection broke off after {have + came:,} bytes ({type(error).__name__})") from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"{name}: the disk of {part.parent} is full. Free some space and run again: what has come is kept."
        ) from None
    if total is not None and have + came < total:
        raise _TryAgain(f"the connection broke off after {have + came:,} of {total:,} bytes")


def _say_progress(name, came, total, rate):
    """rate: bytes per second"""
    of = f" of {total / 1e6:,.0f} MB, {(total - came) / rate / 60:.0f} min left" if total else " MB"
    say(f"{name}: {came / 1e6:,.0f}{of}, {rate / 1e6:.1f} MB/s")


def _fetch(remote, part, name, size, attempts, backoff):
    """Bring the whole file to `part`, with retries: `attempts` in a row without a single new byte, then it fails."""
    failed = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(remote, part, name, size)
            return
        except _TryAgain as error:
            moved = part.exists() and part.stat().st_size > before
            failed = 1 if moved else failed + 1
            if failed >= attempts:
                raise UserError(
                    f"{name}: {error}; given up after {failed} tries. Run again later: what has come is kept."
                ) from None
            wait = backoff * 2 ** (failed - 1) * random.uniform(0.75, 1.25) if error.wait is None else error.wait
            wait = min(wait, LONGEST_WAIT_S)
            say(f"{name}: {error}; try {failed + 1} in {wait:.0f} s")
            time.sleep(wait)


def _check(part, path, expected_bytes, sha256, md5, pin, remove):
    """Compare `part` with what is known of the file. Returns its SHA-256."""
    name = Path(path).name
    wrong = None
    size = part.stat().st_size
    if expected_bytes is not None and size != expected_bytes:
        wrong = f"expected {expected_bytes:,} bytes, found {size:,}"
    wrong = wrong or _strange_start(part, name)
    found = sha256_file(part)
    if not wrong and sha256 and found != sha256:
        wrong = f"expected SHA-256 {sha256}, found {found}"
    if not wrong and md5 and (md5_found := _md5(part)) != md5:
        wrong = f"expected MD5 {md5}, found {md5_found}"
    if not wrong and pin and pin.exists() and read_json(pin)["sha256"] != found:
        wrong = (f"expected SHA-256 {read_json(pin)['sha256']}, which it had when it was first downloaded, found {found}; "
                 f"if the source has published a new version that you want, delete the lock file {pin}")  # fmt: skip
    if wrong:
        if remove:
            for file in (part, part.with_name(f"{part.name}.json")):
                file.unlink(missing_ok=True)
        raise UserError(
            f"{name} is not the file that the descriptor describes: {wrong}. "
            + ("What came was deleted; run again to download it anew. " if remove else "")
            + "If it stays so, compare with the source's page and correct `bytes` or `sha256` in the descriptor."
        )
    return found


def _strange_start(path, name):
    """What is wrong with the first bytes of a file, or None: servers send pages saying "log in" with status 200."""
    with open(path, "rb") as file:
        start = file.read(256)
    if start.lstrip()[:1] == b"<":
        return "it is a web page"
    magic = {".zip": b"PK", ".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b"}.get(Path(name).suffix.lower())
    return (
        f"it begins with {start[:4]!r}, as no {Path(name).suffix} does"
        if magic and not start.startswith(magic)
        else None
    )


def _md5(path):
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _write_pin(pin, file, sha256, url):
    """The lock file `pin` (None: none) of `file`, which has just come, where there is none yet."""
    if pin and not pin.exists():
        facts = {"bytes": file.stat().st_size, "sha256": sha256, "url": url, "first_downloaded": str(date.today())}
        write_json(pin, facts)
        say(f"{pin} now holds its checksum: commit it, so that others get the same bytes")


def _copy_local(source, path, bytes, sha256, pin):
    if not source.exists():
        raise UserError(f"{source} does not exist: it was to be copied to {path}. Is the mirror complete?")
    _check_disk(path.parent, source.stat().st_size, path.name)
    found = _check(source, path, bytes, sha256, None, pin, remove=False)
    with atomic_path(path) as temporary:
        shutil.copyfile(source, temporary)
    return found


HUB_REPOSITORY = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)@(?P<revision>[^@]+)")


def _pack_repository(source, path, state):
    """All files of a dataset repository of the Hugging Face hub as one zip: the same bytes for the same commit."""
    place = HUB_REPOSITORY.fullmatch(source)
    if place is None:
        raise UserError(f"{path.name}: {source!r} is not of the form hf://datasets/OWNER/NAME@REVISION")
    folder = state / f"{path.name}.files"
    _, files = fetch_repository(
        "dataset", place["repo"], place["revision"], folder, lambda names: [n for n in names if n != ".gitattributes"]
    )
    _check_disk(state, sum(file["size"] for file in files.values()), path.name)
    packed = state / path.name
    with atomic_path(packed) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            with (
                open(folder / name, "rb") as file,
                archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member,
            ):
                shutil.copyfileobj(file, member, CHUNK_BYTES)
    shutil.rmtree(folder)
    return packed


def fetched_by_hand(name, state, page, instructions):
    """Where the file `name`, which only a person can fetch, lies.

    Raises:
        UserError: it is not there; says which page to visit, what to do, and where to put the file.
    """
    path = Path(state, "manual", name)
    if not path.exists():
        raise UserError(
            f"{name} cannot be downloaded automatically. Visit {page} . {instructions or ''} "
            f"Then put the file at {path.absolute()} and run again."
        )
    return path


def download_archive(
    source, path, state, painted=None, access="https", bytes=None, sha256=None, page=None, instructions=None, pins=None,
    timeout=60.0, attempts=8, backoff=2.0,
):  # fmt: skip
    """Bring the file `source` to `path`, whole and checked, or not at all.

    Args:
        source: URL (http, https, file) or path; None where access is manual or the file is painted.
        path: where to.
        painted: folder of painted archives, in which a file of the same name takes the source's place; or None.
        state: folder for what has come so far and for files that a person must fetch; kept between runs.
        access: kind of access (see dermaflux.descriptors); "mirror" for files that need no login.
        bytes: expected size, or None.
        sha256: expected checksum, or None.
        page, instructions: for manual access, what to visit and to do.
        pins: folder of the lock files, one an archive, for those whose checksum is not given; None: nothing is pinned.
        timeout: seconds without a byte after which a connection counts as broken.
        attempts: tries in a row that bring nothing before the download fails.
        backoff: seconds before the second try, doubled for each further one.

    Raises:
        UserError: wrong checksum or size, no access, no space, a server that stays away; or the file has to be fetched
            by hand. No token and no query of a URL is ever part of a message.
    """
    path, state = Path(path), Path(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    state.mkdir(parents=True, exist_ok=True)
    if painted:
        source = str(Path(painted, path.name))
    if access == "manual":
        source, access = str(fetched_by_hand(path.name, state, page, instructions)), "mirror"
    pin = Path(pins, f"{path.name}.json") if pins and not sha256 else None
    if source.startswith("hf:"):
        packed = _pack_repository(source, path, state)
        found = _copy_local(packed, path, bytes, sha256, pin)
        packed.unlink()
        _write_pin(pin, path, found, source)
        return
    if (local := _local_path(source)) is not None:
        found = _copy_local(local, path, bytes, sha256, pin)
        _write_pin(pin, path, found, page)
        say(f"{path.name}: copied, {path.stat().st_size:,} bytes")
        return
    part = state / f"{path.name}.part"
    remote = _Remote(source, access, timeout)
    size, md5 = bytes, None
    if access == "dataverse":
        listed, md5 = _retried(lambda: remote.find_in_dataverse(path.name), path.name, attempts, backoff)
        size = bytes or listed
    _fetch(remote, part, path.name, size, attempts, backoff)
    found = _check(part, path, size, sha256, md5, pin, remove=True)
    _write_pin(pin, part, found, _shown(source))
    try:
        os.replace(part, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_path(path) as temporary:  # the state folder is on another disk
            shutil.copyfile(part, temporary)
        part.unlink()
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
    say(f"{path.name}: downloaded, {path.stat().st_size:,} bytes, SHA-256 {found}")


def _retried(ask, name, attempts, backoff):
    """What `ask()` returns, asked again while the server is busy."""
    for attempt in range(attempts):
        try:
            return ask()
        except _TryAgain as error:
            if attempt + 1 == attempts:
                raise UserError(f"{name}: {error}; given up after {attempts} tries. Run again later.") from None
            time.sleep(min(error.wait if error.wait is not None else backoff * 2**attempt, LONGEST_WAIT_S))
    raise AssertionError("unreachable")
