"""One run at a time in a working directory, and none that is blocked by a run that was killed."""

import fcntl
import os
import threading
import time
from pathlib import Path

from dermaflux.errors import UserError

HEARTBEAT = 20.0  # s between signs of life
_held = {}  # path -> open file: a lock lasts as long as its process


def hold_run_lock(path=".snakemake/run.lock", node=None):
    """Lock `path` until this process ends, however it ends.

    Snakemake's own lock outlives a killed run and must then be removed by hand; the kernel drops this one. Some shared file
    systems keep locks on each machine apart: a run on another one is known by its signs of life.

    Args:
        node: name of this machine (default: its own).

    Raises:
        UserError: another run holds it.
    """
    path, node = Path(path).absolute(), node or os.uname().nodename
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+")  # noqa: SIM115  it stays open
    file.seek(0)
    holder = file.read()
    elsewhere = holder and not holder.endswith(f" on {node}")
    silence = time.time() - os.fstat(file.fileno()).st_mtime
    if elsewhere and silence < 3 * HEARTBEAT:
        raise UserError(
            f"another run is, or was {silence:.0f} s ago, at work in {os.getcwd()} ({holder}): stop it or, if it was killed, "
            f"start the same command again in {3 * HEARTBEAT:.0f} s"
        )
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"another run is at work in {os.getcwd()} ({holder}): wait for it or stop it") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {node}")
    file.flush()
    _held[path] = file
    threading.Thread(target=_show_life, args=(file,), daemon=True).start()


def _show_life(file):
    while True:
        time.sleep(HEARTBEAT)
        os.utime(file.fileno())
