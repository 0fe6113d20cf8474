"""The chain through a real SLURM, undisturbed and disturbed. `make test-slurm`; needs root, slurm-wlm and munge."""

import os
import re
import signal
import subprocess
import time

import pytest
import yaml

from conftest import ROOT
from slurm_cluster import Cluster, running, save, scontrol
from workflow import SNAKEMAKE, fresh_clone, planned, snakemake

pytestmark = pytest.mark.slurm
CONFIG = ("--configfile", "config/demo.yaml", "tests/slurm/run.yaml")
RUN = (
    "--profile", "slurm", *CONFIG, "--jobs", "4", "--slurm-init-seconds-before-status-checks", "2",
    "--seconds-between-status-checks", "4", "--latency-wait", "5", "--slurm-keep-successful-logs",
)  # fmt: skip
LOCAL = {"download_archive", "fetch_model"}
GPU_RULES = {"encode_shard", "train_lora", "sample_shard", "train_classifier", "score_zero_shot"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory):
    """(clone, jobs) of a run that nobody disturbed."""
    clone = fresh_clone(tmp_path_factory.mktemp("undisturbed"))
    with cluster.recorded(clone) as jobs:
        snakemake(clone, *RUN)
    save(jobs, clone / "jobs.json")
    return clone, jobs


def tables(clone):
    return {path.name: path.read_bytes() for path in sorted((clone / "results/slurm/tables").iterdir())}


def gpu_jobs(jobs):
    return [job for job in jobs.values() if job.partition == "gpu"]


# Undisturbed


def test_the_chain_runs_to_its_report_through_the_scheduler(undisturbed):
    clone, jobs = undisturbed
    assert {job.state for job in jobs.values()} == {"COMPLETED"}
    assert (clone / "results/slurm/report/overview.html").exists() and len(tables(clone)) >= 5
    assert planned(clone, *RUN) == {}


def test_gpu_jobs_and_only_they_hold_a_gpu(undisturbed):
    _, jobs = undisturbed
    holding = {rule for job in jobs.values() if job.gpus for rule in GPU_RULES if rule in job.rules}
    assert holding == GPU_RULES
    assert all(bool(job.gpus) == (job.partition == "gpu") for job in jobs.values())
    assert all(any(rule in job.rules for rule in GPU_RULES) for job in gpu_jobs(jobs))


def test_no_gpu_is_ever_given_to_two_jobs(undisturbed):
    _, jobs = undisturbed
    for device in "01":
        its = sorted((job.start, job.end) for job in gpu_jobs(jobs) if device in job.gpus)
        assert its and all(end <= start for (_, end), (start, _) in zip(its, its[1:]))


def test_each_gpu_job_sees_exactly_its_device(undisturbed):
    _, jobs = undisturbed
    for job in gpu_jobs(jobs):
        assert len(job.gpus) == 1 and set(re.findall(r"^GPU (.*) on ", job.output, re.M)) == job.gpus, job


def test_small_jobs_share_a_submission(undisturbed):
    _, jobs = undisturbed
    named = [job.rules for job in jobs.values()]
    for group in ("prepare_prepare_shard", "decide_decide_rows", "encode_encode_shard", "classify_train_classifier"):
        assert sum(name.startswith(group) for name in named) == 1, named
    assert not any("download_archive" in name or "fetch_model" in name for name in named)  # they run here


# Disturbed


def wait_for(rule, process, patience=900):
    """Ids of the jobs of `rule`, once some run."""
    began = time.monotonic()
    while not (ids := running(rule)):
        assert process.poll() is None and time.monotonic() - began < patience, f"no job of {rule} ran"
        time.sleep(0.2)
    return ids


@pytest.fixture(scope="module")
def disturbed(cluster, tmp_path_factory):
    """(clone, jobs, log) of a run with a time-out, a kill for memory, a controller that is away, a scancel, and a kill -9
    of Snakemake."""
    clone = fresh_clone(tmp_path_factory.mktemp("disturbed"))
    command = [SNAKEMAKE, *RUN, "--set-resources", "train_lora:runtime=attempt"]
    command += ["report_leakage:mem_mb=100 * attempt ** 3"]
    log = clone / "run.log"
    with cluster.recorded(clone) as jobs:
        with open(log, "a") as file:
            first = subprocess.Popen(command, cwd=clone, stdout=file, stderr=file)
            wait_for("train_lora", first)
            cluster.restart_controller(away=15)
            subprocess.run(["scancel", *wait_for("sample_shard", first)], check=True)
            left_behind = wait_for("classify", first)
            first.send_signal(signal.SIGKILL)
            first.wait()
            assert running("classify") == left_behind  # SLURM does not know that they are orphans
            second = subprocess.run(command, cwd=clone, stdout=file, stderr=file)
        assert second.returncode == 0, log.read_text()[-5000:]
    return clone, jobs, log.read_text()


def states(jobs, rule):
    return [job.state for job in sorted(jobs.values(), key=lambda job: int(job.id)) if rule in job.rules]


def test_a_job_that_runs_out_of_time_goes_on_from_its_checkpoint(disturbed):
    clone, jobs, _ = disturbed
    assert states(jobs, "train_lora")[0] == "TIMEOUT" and states(jobs, "train_lora")[-1] == "COMPLETED"
    assert "continued at step" in (clone / "results/slurm/logs/train_lora/dermaflux.log").read_text()


def test_a_job_that_is_killed_for_its_memory_gets_more(disturbed):
    _, jobs, _ = disturbed
    assert states(jobs, "report_leakage")[0] in ("OUT_OF_MEMORY", "FAILED", "CANCELLED")
    assert states(jobs, "report_leakage")[-1] == "COMPLETED"


def test_a_controller_that_is_away_for_a_while_costs_nothing(disturbed):
    # more would have failed, or the run waited for ever: the plugin forgets jobs whose state it cannot ask
    _, jobs, _ = disturbed
    assert states(jobs, "train_lora") == ["TIMEOUT"] * (len(states(jobs, "train_lora")) - 1) + ["COMPLETED"]


def test_a_job_that_is_cancelled_is_run_again(disturbed):
    _, jobs, _ = disturbed
    assert "CANCELLED" in states(jobs, "sample_shard") and states(jobs, "sample_shard").count("COMPLETED") == 4


def test_a_killed_snakemake_leaves_nobody_who_writes_beside_the_next_run(disturbed):
    _, jobs, log = disturbed
    orphans = re.search(r"cancelling \d+ SLURM job\(s\) that an earlier run left behind: (.*)", log)[1].split(", ")
    assert {jobs[id].state for id in orphans} == {"CANCELLED"}
    later = [job for job in jobs.values() if "classify" in job.rules and job.id not in orphans]
    assert later and min(job.start for job in later) >= max(jobs[id].end for id in orphans)


def test_a_disturbed_run_ends_with_the_same_tables(undisturbed, disturbed):
    assert tables(disturbed[0]) == tables(undisturbed[0])


def test_a_job_that_slurm_lost_is_noticed_and_run_again(cluster, tmp_path):
    clone = fresh_clone(tmp_path)
    node = os.uname().nodename.split(".")[0]
    scontrol("update", f"nodename={node}", "state=drain", "reason=test")  # so that the job waits in the queue
    target = "results/slurm/mirror/kaggle_1"
    log = open(clone / "run.log", "w")  # noqa: SIM115
    process = subprocess.Popen([SNAKEMAKE, *RUN, target], cwd=clone, stdout=log, stderr=log)
    while "has been submitted" not in (clone / "run.log").read_text():
        assert process.poll() is None, (clone / "run.log").read_text()
        time.sleep(0.2)
    cluster.restart_controller(forget=True)
    scontrol("update", f"nodename={node}", "state=resume")
    assert process.wait(300) == 0 and (clone / target).is_dir()
    assert "any more: it was lost" in (clone / "run.log").read_text()


# The paper's run


def submissions(jobs):
    """Rule or group -> number of submissions that the profile makes of planned jobs (rule -> number)."""
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    counts = {}
    for rule, count in jobs.items():
        name = profile["groups"].get(rule, rule)
        counts[name] = counts.get(name, 0) + count
    sizes = profile["group-components"]
    return {name: -(-count // sizes.get(name, 1)) for name, count in counts.items() if name not in LOCAL}


def test_the_preparation_of_the_papers_run_is_at_most_a_few_hundred_submissions():
    made = submissions(planned(ROOT))
    stages = ("index_dataset", "prepare", "decide", "corpus", "encode", "verify_captioner", "caption_shard")
    assert sum(made[name] for name in stages) <= 200
