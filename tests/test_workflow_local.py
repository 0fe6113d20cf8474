"""One machine with two pretended GPUs: each job has one of them."""

import os
import re

import pytest

from workflow import fresh_clone, snakemake

pytestmark = pytest.mark.slow
GPU_RULES = ("encode_shard", "train_lora", "sample_shard", "train_classifier")
RUN = ("--profile", "profiles/local", "--configfile", "config/demo.yaml", "tests/slurm/run.yaml")


@pytest.fixture(scope="module")
def gpus(tmp_path_factory):
    """Log of each GPU job -> the GPUs that it says it had."""
    clone = fresh_clone(tmp_path_factory.mktemp("local"))
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "0,1", "TMPDIR": str(tmp_path_factory.mktemp("locks"))}
    short = ("--config", "lora={epochs: 2}", "classify={runs_per_gpu: 1}")
    snakemake(clone, *RUN, "--resources", "gpu_percent=200", *short, "--", "classifiers", env=environment)
    logs = sorted((clone / "results/slurm/logs").rglob("*.log"))
    return {path.relative_to(clone): re.findall(r"^GPU (.*) on ", path.read_text(), re.M) for path in logs}


def test_each_gpu_job_has_exactly_one_of_the_two_devices(gpus):
    its = [devices for path, devices in gpus.items() if path.relative_to("results/slurm/logs").parts[0] in GPU_RULES]
    assert len(its) == 2 + 1 + 4 + 4 and all(devices in (["0"], ["1"]) for devices in its)


def test_both_devices_are_used(gpus):
    assert {devices[0] for devices in gpus.values() if devices} == {"0", "1"}


def test_jobs_without_a_gpu_lease_none(gpus):
    others = [
        devices for path, devices in gpus.items() if path.relative_to("results/slurm/logs").parts[0] not in GPU_RULES
    ]
    assert others and not any(others)
