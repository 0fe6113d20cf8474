"""Which GPUs a job may use: those that SLURM gave it or, on one machine, those that it leases from the jobs beside it."""

import fcntl
import getpass
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from dermaflux.errors import UserError

PERCENT = 100  # a device is lent by the percent; each is a byte of its lock file
_held = []  # open files: a lease lasts as long as its process


def visible_devices():
    """The GPUs that may be used here, as CUDA_VISIBLE_DEVICES names them (list of str)."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device.strip() for device in named.split(",") if device.strip() not in ("", "-1", "NoDevFiles")]
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True)
    return done.stdout.split() if done.returncode == 0 else []


def lease_folder():
    """Where this user's lock files lie: one folder for all runs on this machine."""
    return Path(tempfile.gettempdir(), f"dermaflux-gpus-{getpass.getuser()}")


def lease_gpus(count, percent=PERCENT, folder=None, waiting=lambda: None):
    """Take `count` GPUs for this process, until it ends however it ends, and name them in CUDA_VISIBLE_DEVICES.

    The kernel keeps the locks, so that a killed job gives back what it held. Waits until enough devices are free.

    Args:
        count: number of devices.
        percent: of each device; jobs of 50 share one by twos. Earlier devices are filled first, so that others stay whole.
        folder: of the lock files (default: lease_folder()).
        waiting: called once where the job has to wait.

    Returns:
        list of the devices (str); empty where this machine has no GPU, which is for the job to object to.

    Raises:
        UserError: there are GPUs, but fewer than `count`; or SLURM gave the job fewer.
    """
    devices = visible_devices()
    slurm_job = os.environ.get("SLURM_JOB_ID")
    if slurm_job and len(devices) < count:
        raise UserError(
            f"SLURM job {slurm_job} was to have {count} GPU(s) and sees {len(devices)} on node {os.uname().nodename} "
            f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')!r}): check the partition and the way that GPUs "
            "are asked for in profiles/slurm/config.yaml, or exclude that node"
        )
    if not devices or slurm_job:  # SLURM lends them itself
        return devices
    if len(devices) < count:
        raise UserError(f"the job wants {count} GPUs, and this machine has {len(devices)}: {', '.join(devices)}")
    folder = Path(folder or lease_folder())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = False
    while (taken := _take_some(folder, devices, count, percent)) is None:
        if not told:
            waiting()
        told = True
        time.sleep(0.5)
    _held.extend(taken.values())
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    return list(taken)


def _take_some(folder, devices, count, percent):
    """`percent` of the first `count` devices that have it free: dict device -> open file; None where there are fewer."""
    taken = {}
    for device in devices:
        if file := _take(folder / f"{device}.lock", percent):
            taken[device] = file
        if len(taken) == count:
            return taken
    for file in taken.values():
        file.close()
    return None


def _take(path, percent):
    """An open file that holds `percent` bytes of the lock file at `path`, or None where so many are not free."""
    file = open(path, "a")  # noqa: SIM115  it stays open
    for start in range(0, PERCENT - percent + 1, percent):
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, percent, start, os.SEEK_SET)
            return file
        except OSError:
            continue
    file.close()
    return None
