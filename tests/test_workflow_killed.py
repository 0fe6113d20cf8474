"""A run that is killed again and again ends with the same results as an undisturbed one."""

import os
import signal
import subprocess
import time

import pytest

from workflow import SNAKEMAKE, fresh_clone, planned, snakemake

pytestmark = pytest.mark.slow
CONFIG = ("--profile", "profiles/demo", "--configfile", "config/demo.yaml", "tests/small.yaml")


def tables(clone):
    return {path.name: path.read_text() for path in sorted((clone / "results/small/tables").iterdir())}


def run_and_kill(clone, seconds):
    """Start the run, and kill Snakemake (not its jobs) after `seconds`; returns whether it had ended by then."""
    log = open(clone / "killed.log", "a")  # noqa: SIM115
    process = subprocess.Popen([SNAKEMAKE, *CONFIG], cwd=clone, stdout=log, stderr=log)
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return False


def test_the_same_command_finishes_a_run_that_was_killed(tmp_path):
    undisturbed, killed = fresh_clone(tmp_path / "undisturbed"), fresh_clone(tmp_path / "killed")
    start = time.monotonic()
    snakemake(undisturbed, *CONFIG)
    whole = time.monotonic() - start
    ended = [run_and_kill(killed, share * whole) for share in (0.3, 0.5)]
    assert not all(ended)
    snakemake(killed, *CONFIG)
    assert planned(killed, *CONFIG) == {}
    assert tables(killed) == tables(undisturbed)
