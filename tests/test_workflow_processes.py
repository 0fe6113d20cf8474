"""The LoRA's training in several processes, as the workflow starts it."""

import csv
import shutil

import pytest

from workflow import fresh_clone, planned, snakemake

pytestmark = pytest.mark.slow
CONFIG = ("--profile", "profiles/demo", "--configfile", "config/demo.yaml", "tests/small.yaml")
TWO = ("--config", "lora={gpus: 2}")


def losses(lora):
    return [float(row["loss"]) for row in csv.DictReader((lora / "log.csv").open())]


def test_two_processes_train_the_lora_that_one_trains(tmp_path):
    clone = fresh_clone(tmp_path)
    lora = clone / "results/small/lora/dermaflux"
    snakemake(clone, "lora", *CONFIG)
    assert planned(clone, "lora", *CONFIG, *TWO) == {}
    alone = losses(lora)
    shutil.rmtree(lora)
    output = snakemake(clone, "lora", *CONFIG, *TWO).stdout
    assert "trained parameters, 2 processes" in output
    assert losses(lora) == pytest.approx(alone, abs=1e-4)
    assert not list((clone / "results/small/state/train_lora/dermaflux").iterdir())
