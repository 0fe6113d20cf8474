"""One run at a time in a working directory, and none that is blocked by a run that was killed."""

import fcntl
import os
from pathlib import Path

from dermaflux.errors import UserError

_held = {}  # path -> open file: a lock lasts as long as its process


def hold_run_lock(path=".snakemake/run.lock"):
    """Lock `path` until this process ends, however it ends.

    Snakemake's own lock outlives a killed run and must then be removed by hand; the kernel drops this one.

    Raises:
        UserError: another run holds it.
    """
    path = Path(path).absolute()
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+")  # noqa: SIM115  it stays open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise UserError(
            f"another run is at work in {os.getcwd()} (process {file.read()}): wait for it or stop it"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    _held[path] = file
