"""A real conda makes environments of envs/, and rules run inside them. `make test-conda`."""

import os
import re

import pytest

from conftest import ROOT
from workflow import fresh_clone, snakemake

pytestmark = pytest.mark.conda
CONDA = ROOT / ".venv-conda/base/bin"
INDEX, MODEL = "results/slurm/index/kaggle_1.parquet", "results/slurm/models/clip/revision.json"
RUN = ("--cores", "2", "--sdm", "conda", "--configfile", "config/demo.yaml", "tests/slurm/run.yaml", "--")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A clone in which two rules of the data environment and one of a model environment have run; its environments before."""
    clone = fresh_clone(tmp_path_factory.mktemp("conda"))
    environment = os.environ | {"PATH": f"{CONDA}:{os.environ['PATH']}"}
    snakemake(clone, "--conda-create-envs-only", *RUN, INDEX, MODEL, env=environment)  # as on a login node
    made = environments(clone)
    assert not (clone / INDEX).exists()
    snakemake(clone, *RUN, INDEX, MODEL, env=environment)
    return clone, made


def environments(clone):
    return {path for path in (clone / ".snakemake/conda").iterdir() if path.is_dir()}


def prefix(clone, rule):
    (log,) = (clone / "results/slurm/logs").glob(f"{rule}/**/*.log")
    return re.match(r"Python \S+ of (\S+) on ", log.read_text())[1]


def test_the_environments_are_made_before_the_run_and_by_it_no_others(run):
    clone, made = run
    # paint and index share one, the toy model's is the second, the third is that of downloads
    assert len(made) == 3 and environments(clone) == made


def test_each_rule_runs_inside_its_environment(run):
    clone, made = run
    data, model = prefix(clone, "index_dataset"), prefix(clone, "fetch_model")
    assert data == prefix(clone, "paint_archives") and len({data, model, prefix(clone, "download_archive")}) == 3
    assert {data, model} <= {str(path) for path in made}


def test_the_model_environment_has_what_the_data_environment_does_not(run):
    clone, _ = run
    data, model = (f"{prefix(clone, rule)}/lib/python3.11/site-packages" for rule in ("index_dataset", "fetch_model"))
    assert not os.path.isdir(f"{data}/torch") and os.path.isdir(f"{model}/torch")
