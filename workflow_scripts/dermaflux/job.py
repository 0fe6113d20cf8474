"""What every script does around its one call: a log, readable errors, progress on the terminal."""

import errno
import os
import platform
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from dermaflux.errors import UserError
from dermaflux.gpu_lease import PERCENT, lease_gpus

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_terminal = None  # a copy of the job's first stderr, while stdout and stderr go to the log


@contextmanager
def job(log, resources=None):
    """Send all that is printed (also by C code and child processes) to the file `log`; progress also to the terminal.

    Args:
        log: path.
        resources: of a job that may use GPUs (Snakemake's): it gets `gpu` devices, shared out among `nodes`, and of
            a single one gpu_percent.

    A `UserError` or a full disk ends the job with exit code 1 and its message alone; any other error with its traceback,
    in the log.
    """
    global _terminal
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush(), sys.stderr.flush()
    _terminal = os.fdopen(os.dup(2), "w", buffering=1)
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
    print(f"Python {platform.python_version()} of {sys.prefix} on {os.uname().nodename}", flush=True)
    try:
        if resources and resources.get("gpu"):
            here = resources.gpu // resources.get("nodes", 1)
            _take_gpus(here, resources.get("gpu_percent", PERCENT) if here == 1 else PERCENT)
        yield
    except Exception as error:
        if message := explained(error):
            say(f"Error: {message}")
            os._exit(1)  # no traceback, neither ours nor Snakemake's
        _tell(error, log)
        raise
    finally:
        sys.stdout.flush(), sys.stderr.flush()


def _take_gpus(count, percent):
    devices = lease_gpus(count, percent, waiting=lambda: say("waiting for a free GPU"))
    if devices:
        say(f"GPU {', '.join(devices)} on {os.uname().nodename}")


def launched():
    """What `job` does for a script, for a process that a script has launched: it ends with the process that started it,
    and what it says goes to the log and through its stdout to the script, which shows it.
    """
    global _terminal
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _terminal = sys.stdout


def show(lines):
    """Print what launched processes say (iterable of lines) to the terminal; it is in the log already."""
    for line in lines:
        print(line, end="", file=_terminal, flush=True)


def explained(error):
    """The message of an exception that a person can act on (a UserError, a full disk), or None."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return f"{error}; free some space and start the same command again: nothing is lost"
    return None


def _end_with_parent(parent, every=1.0):
    """End this process when Snakemake is gone, so that a killed run leaves nobody who writes beside the next one."""
    while os.getppid() == parent:
        time.sleep(every)
    os._exit(1)


def _tell(error, log):
    print(f"{type(error).__name__}: {error}\n  the traceback is in {log}", file=_terminal, flush=True)


def say(message):
    """Print `message` to the log and the terminal."""
    print(message, file=sys.stderr, flush=True)
    if _terminal:
        print(message, file=_terminal, flush=True)


def duration(seconds):
    """`seconds` (float) in words, such as "2 min 05 s"."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def progress(items, what, total=None, done=0, every=10.0, unit="images"):
    """Iterate over `items`, saying every `every` seconds how many are done, at which rate, and how long it still takes.

    Args:
        what: name of the work, e.g. "prepare isic_2019-3".
        total: number of items (default: len(items)); `done` of them were done by an earlier run.
    """
    total = len(items) if total is None else total
    start = said = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said >= every and done + count < total:
            rate = count / (now - start)
            left = duration((total - done - count) / rate)
            say(f"{what}: {done + count:,} of {total:,} {unit}, {rate:.3g}/s, {left} left")
            said = now
