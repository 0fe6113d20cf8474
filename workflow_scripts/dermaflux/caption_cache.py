"""Every reply that was ever paid for, in a file of JSON lines that outlives killed jobs."""

import json
import os
import time
from pathlib import Path

from dermaflux.caption_replies import Reply
from dermaflux.files import fingerprint

SYNC_EVERY = 10.0  # s between fsyncs: a killed process loses nothing, a machine that loses power at most so much


def reply_key(**request):
    """The key of a request: a hash over all that its reply depends on (image hash, prompt, model, server, sampling)."""
    return fingerprint(request)


class ReplyCache:
    """Replies by key, in the append-only file `path`. Context manager.

    Only each reply's place in the file is held in memory (about 150 bytes), never the replies. A line that a kill tore
    is skipped, and what follows starts on a line of its own.
    """

    def __init__(self, path):
        self.path, self._places, self._synced = Path(path), {}, time.monotonic()

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b")  # noqa: SIM115  closed in __exit__
        self._file.seek(0)
        place, line = 0, b"\n"
        for line in self._file:
            entry = _parsed(line)
            if entry is not None:
                self._places[bytes.fromhex(entry["key"])] = place
            place += len(line)
        if not line.endswith(b"\n"):
            self._file.write(b"\n")
        self._file.flush()
        return self

    def __exit__(self, *error):
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __len__(self):
        return len(self._places)

    def get(self, key):
        """The Reply to the request `key`, or None where there is none yet."""
        place = self._places.get(bytes.fromhex(key))
        if place is None:
            return None
        self._file.seek(place)
        return Reply(**_parsed(self._file.readline())["reply"])

    def put(self, key, reply):
        """Keep `reply` (a Reply) under `key`: in the operating system's hands when this returns."""
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps({"key": key, "reply": reply.as_dict()}).encode() + b"\n")
        self._file.flush()
        self._places[bytes.fromhex(key)] = place
        if time.monotonic() - self._synced >= SYNC_EVERY:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()


def _parsed(line):
    """The entry in a line, or None where the line is torn."""
    try:
        entry = json.loads(line)
        Reply(**entry["reply"])
        bytes.fromhex(entry["key"])
    except (ValueError, TypeError, KeyError):
        return None
    return entry
