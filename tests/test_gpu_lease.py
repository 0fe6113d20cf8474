import os
import subprocess
import sys
import time

import pytest

from conftest import ROOT
from dermaflux import gpu_lease
from dermaflux.errors import UserError

TAKE = (
    f"import sys, time; sys.path.insert(0, {str(ROOT / 'workflow_scripts')!r}); from dermaflux.gpu_lease import lease_gpus\n"
    "devices = lease_gpus(int(sys.argv[2]), int(sys.argv[3]), sys.argv[1], lambda: print('waiting', flush=True))\n"
    "import os; print(*devices, os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(60)"
)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A function that starts a job with a lease and returns its process; the machine has two GPUs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    jobs = []

    def start(count=1, percent=100):
        command = [sys.executable, "-c", TAKE, str(tmp_path / "locks"), str(count), str(percent)]
        jobs.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return jobs[-1]

    yield start
    for process in jobs:
        process.kill()
        process.wait()


def said(process):
    return process.stdout.readline().strip()


def test_each_job_gets_a_device_of_its_own_and_the_next_one_waits(job):
    first = job()
    assert said(first) == "0 0" and said(job()) == "1 1"
    third = job()
    assert said(third) == "waiting"
    first.kill()
    assert said(third) == "0 0"  # what a killed job held is free at once


def test_jobs_that_share_a_device_fill_it_before_they_take_the_next(job):
    assert [said(job(percent=50)) for _ in range(3)] == ["0 0", "0 0", "1 1"]
    assert said(job(percent=100)) == "waiting"
    assert said(job(percent=50)) == "1 1"


def test_a_job_of_two_devices_holds_none_while_it_waits(job):
    assert said(job()) == "0 0"
    both = job(count=2)
    assert said(both) == "waiting"
    time.sleep(0.3)
    assert said(job()) == "1 1"


def test_a_machine_with_fewer_gpus_than_the_job_wants_says_so(monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(UserError, match="the job wants 2 GPUs, and this machine has 1: 3"):
        gpu_lease.lease_gpus(2, folder=tmp_path)


def test_a_machine_without_gpus_leases_none(monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    for nothing in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert gpu_lease.lease_gpus(1, folder=tmp_path) == []


def test_under_slurm_a_job_uses_what_it_was_given(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_lease.lease_gpus(1, folder=tmp_path / "locks") == ["1"] and not (tmp_path / "locks").exists()


def test_a_slurm_node_without_the_promised_gpu_fails_with_that_message(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    with pytest.raises(UserError, match=f"SLURM job 7 was to have 1 GPU.s. and sees 0 on node {os.uname().nodename}"):
        gpu_lease.lease_gpus(1, folder=tmp_path)
