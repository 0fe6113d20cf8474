"""Files that appear whole or not at all, and fingerprints of what they depend on."""

import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path):
    """Yield a temporary path beside `path`; it is renamed to `path` on success and removed on any error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write `text` (str, UTF-8) to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write `value` as indented JSON to `path` atomically. NaN is refused, so that every reader can parse the file."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path):
    """The value in the JSON file `path`."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256_file(path, chunk_bytes=1 << 20):
    """Hexadecimal SHA-256 of the file `path`, read in chunks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(chunk_bytes):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(value):
    """Hexadecimal SHA-256 of the JSON form of `value` (keys sorted): equal values, equal fingerprints."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def fraction(*keys):
    """A number in [0, 1) that depends on `keys` (anything with a str) alone: the same on every machine and in every run."""
    digest = hashlib.sha256("\0".join(map(str, keys)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
