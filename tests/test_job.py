import resource
import subprocess
import sys
import time
from pathlib import Path

from conftest import ROOT
from dermaflux.job import progress, say

PREAMBLE = f"import sys; sys.path.insert(0, {str(ROOT / 'workflow_scripts')!r})\nfrom dermaflux.job import job, say\n"


def run(folder, body, **options):
    code = PREAMBLE + f"with job({str(folder / 'a.log')!r}):\n    {body}\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)
    where, log = (folder / "a.log").read_text().split("\n", 1)
    assert where.startswith("Python 3.1") and f" of {sys.prefix} on " in where
    return done, log


def test_output_goes_to_the_log_and_what_is_said_also_to_the_terminal(tmp_path):
    done, log = run(tmp_path, "print('detail'); import os; os.system('echo child'); say('news')")
    assert done.returncode == 0 and done.stderr == "news\n" and done.stdout == ""
    assert {"detail", "child", "news"} == set(log.split())


def test_an_error_of_the_users_is_told_without_a_traceback(tmp_path):
    done, log = run(tmp_path, "from dermaflux.errors import UserError; raise UserError('no such key')")
    assert done.returncode == 1 and log == done.stderr == "Error: no such key\n"


def test_any_other_error_leaves_its_traceback_in_the_log(tmp_path):
    done, log = run(tmp_path, "1 / 0")
    assert done.returncode == 1
    assert "Traceback" in log
    assert done.stderr.startswith(f"ZeroDivisionError: division by zero\n  the traceback is in {tmp_path / 'a.log'}")


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path):
    old = tmp_path / "a.json"
    old.write_text("old")
    body = f"from dermaflux.files import write_text; write_text({str(old)!r}, 'x' * 10**6)"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))  # noqa: E731
    done, log = run(tmp_path, f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); {body}", preexec_fn=limit)
    assert done.returncode == 1 and "free some space and start the same command again" in log
    assert old.read_text() == "old" and sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.log"]


def test_a_job_ends_when_the_process_that_started_it_is_killed(tmp_path):
    job = PREAMBLE + f"with job({str(tmp_path / 'a.log')!r}):\n    import time; time.sleep(60)\n"
    parent = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {job!r}]); print(p.pid, flush=True); time.sleep(60)"
    started = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    pid = int(started.stdout.readline())
    while not (tmp_path / "a.log").exists():
        time.sleep(0.05)
    started.kill(), started.wait()
    for _ in range(100):
        if not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes():
            return
        time.sleep(0.1)
    raise AssertionError("the job outlived the process that started it")


def test_progress_tells_count_rate_and_time_left(capfd):
    assert list(progress(range(3), "prepare d-0", every=0)) == [0, 1, 2]
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("prepare d-0: 1 of 3 images, ") and lines[0].endswith(" s left")


def test_progress_counts_what_an_earlier_run_did(capfd):
    list(progress(range(2), "caption", total=10, done=8, every=0))
    assert "9 of 10" in capfd.readouterr().err
    say("x")
