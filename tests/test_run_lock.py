import os
import signal
import subprocess
import sys
import time

import pytest

from conftest import ROOT
from dermaflux.errors import UserError
from dermaflux.run_lock import hold_run_lock

HOLD = f"import sys, time; sys.path.insert(0, {str(ROOT / 'workflow_scripts')!r}); from dermaflux.run_lock import hold_run_lock"


def other_run(path):
    """A process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", f"{HOLD}; hold_run_lock({str(path)!r}); time.sleep(60)"])
    while not path.exists() or not path.read_text():
        time.sleep(0.05)
    return process


def test_a_second_run_is_refused_and_told_which_process_is_at_work(tmp_path):
    other = other_run(tmp_path / "lock")
    with pytest.raises(UserError, match=f"another run is at work .* \\(process {other.pid} on "):
        hold_run_lock(tmp_path / "lock")
    other.kill()


def test_a_run_that_was_killed_blocks_nobody(tmp_path):
    other = other_run(tmp_path / "lock")
    other.send_signal(signal.SIGKILL)
    other.wait()
    hold_run_lock(tmp_path / "lock")


def test_a_run_on_another_machine_is_known_by_its_signs_of_life(tmp_path):
    path = tmp_path / "lock"
    path.write_text("process 7 on login2")  # as on a file system that keeps each machine's locks to itself
    with pytest.raises(UserError, match="at work in .* \\(process 7 on login2\\): stop it or"):
        hold_run_lock(path, "login1")
    os.utime(path, (time.time() - 3600,) * 2)
    hold_run_lock(path, "login1")
    assert path.read_text().endswith(" on login1")
