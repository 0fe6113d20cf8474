"""Several processes through the real `accelerate launch`, on CPUs."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from conftest import ROOT
from dermaflux.errors import UserError
from dermaflux.launch import launch
from dermaflux.torch_setup import torch
from flux_corpus import train, training

WEIGHTS = "toy/pytorch_lora_weights.safetensors"
# srun as far as it is used here: the command once for each node, told which node it is on; one machine plays all
SRUN = """#!/bin/sh
nodes=${1#--nodes=}
while [ "${1#--}" != "$1" ]; do shift; done
for node in $(seq 0 $((nodes - 1))); do SLURM_NODEID=$node "$@" & done
wait
"""


def losses(folder):
    return [float(row["loss"]) for row in csv.DictReader((folder / "toy" / "log.csv").open())]


def assert_same_training(first, second):
    assert losses(first) == pytest.approx(losses(second), abs=1e-5)
    a, b = (torch.cat([its.flatten() for its in load_file(folder / WEIGHTS).values()]) for folder in (first, second))
    assert (a - b).norm() < 1e-4 * a.norm()  # Adam enlarges rounding where a gradient is almost zero


def launch_training(folder, processes, nodes=1, **changes):
    launch("lora_worker", training(folder, **changes), folder / "launch", processes, nodes, threads=2, gpus=False)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folder of a training by one process."""
    folder = tmp_path_factory.mktemp("alone")
    train(folder)
    return folder


def test_three_processes_train_as_one_does_also_where_a_batch_has_two_rows(tmp_path, alone, capfd):
    launch_training(tmp_path, 3)
    assert_same_training(tmp_path, alone)
    assert "16 images, 10 steps, 83,456 trained parameters, 3 processes" in capfd.readouterr().out
    assert not list(tmp_path.glob("state/*")) and not (tmp_path / "launch").exists()


def test_the_nodes_of_a_slurm_job_train_as_one_process_does(tmp_path, alone, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(SRUN)
    (tmp_path / "bin" / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    launch_training(tmp_path, 2, nodes=2)
    assert_same_training(tmp_path, alone)


def test_killed_with_two_processes_and_continued_with_one(tmp_path, alone):
    code = "import sys, pathlib, test_launch; test_launch.launch_training(pathlib.Path(sys.argv[1]), 2)"
    paths = f"{ROOT / 'workflow_scripts'}:{ROOT / 'tests'}"
    job = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "killed"], env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while job.poll() is None and not list(tmp_path.glob("killed/state/*/state.safetensors")):
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL and not (tmp_path / "killed" / WEIGHTS).exists()
    assert gone(tmp_path), "processes outlived the job that had launched them"
    done = int(load_file(next(tmp_path.glob("killed/state/*/state.safetensors")))["step"])
    assert 0 < done < 10
    train(tmp_path / "killed")
    assert_same_training(tmp_path / "killed", alone)


def gone(folder, seconds=20):
    """Wait until no process has `folder` among its arguments."""
    for _ in range(10 * seconds):
        commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        if not any(str(folder).encode() in command for command in commands):
            return True
        time.sleep(0.1)
    return False


def test_a_loss_that_is_not_finite_ends_all_processes_with_one_message(tmp_path, capfd):
    with pytest.raises(UserError, match="^the loss is nan at step [1-9]: lower lora.learning_rate$"):
        launch_training(tmp_path, 2, learning_rate=1e20, warmup_steps=0, max_grad_norm=1e30)
    assert not (tmp_path / WEIGHTS).exists()


def test_an_error_in_one_process_ends_the_others(tmp_path):
    arguments = training(tmp_path) | {"device": "cuda"}
    with pytest.raises(UserError, match="this job should have 2 GPUs on .*, but torch sees 0: .*lora.gpus"):
        launch("lora_worker", arguments, tmp_path / "launch", 2)


def test_gpus_that_cannot_be_shared_out_evenly_are_refused(tmp_path):
    with pytest.raises(UserError, match="5 GPUs cannot be shared out evenly among 2 nodes: change lora.gpus"):
        launch("lora_worker", {}, tmp_path, 5, nodes=2)
