from types import SimpleNamespace

import pandas as pd
import pytest

from conftest import ROOT, load_paper_config
from dermaflux import cost, planning
from dermaflux.closed import load

RULES = {
    "prepare": {"stage": "data", "gpus": 0},
    "train": {"stage": "model", "gpus": 4},
    "plot": {"stage": "data", "gpus": 0},
}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def benchmarks(tmp_path):
    """Files as Snakemake writes them, one of a job too short to be measured."""
    files = {"prepare/a": (7200, 100, 50, 3600), "prepare/b": (3600, 200, 200, 7200), "train/x": (3600, 50, 90, 3000)}
    for name, (s, memory, mean_load, cpu_time) in {**files, "plot": (1, "-", "-", "-")}.items():
        path = tmp_path / "benchmarks" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        row = {"s": s, "max_pss": memory, "mean_load": mean_load, "cpu_time": cpu_time}
        pd.DataFrame([row]).to_csv(path, sep="\t", index=False)
    return tmp_path / "benchmarks"


def test_time_memory_and_gpus_are_added_up_by_rule_longest_first(benchmarks):
    prepare, train, plot = cost.measured_costs(benchmarks, RULES, watts=700)
    assert prepare == {
        "stage": "data", "rule": "prepare", "jobs": 2, "hours": 3.0, "cpu_hours": 3.0, "mean_load_percent": 100.0,
        "peak_mb": 200.0, "gpu_hours": 0.0, "gpu_kwh_at_most": 0.0,
    }  # fmt: skip
    assert (train["gpu_hours"], train["gpu_kwh_at_most"]) == (4.0, 2.8)
    assert plot["cpu_hours"] is plot["peak_mb"] is plot["mean_load_percent"] is None


def test_a_run_on_cpus_holds_no_gpu(benchmarks):
    assert all(row["gpu_hours"] == 0 for row in cost.measured_costs(benchmarks, RULES, watts=None))


def test_stages_are_the_sums_of_their_rules(benchmarks, tmp_path):
    costs = cost.measured_costs(benchmarks, RULES, watts=700)
    data, model = cost.stage_totals(costs)
    assert (data["stage"], data["jobs"], data["peak_mb"]) == ("data", 3, 200) and data["hours"] == pytest.approx(
        3, abs=1e-3
    )
    assert model["gpu_hours"] == 4
    cost.write_costs(costs, tmp_path / "cost.csv")
    assert list(pd.read_csv(tmp_path / "cost.csv")["rule"]) == ["prepare", "train", "plot"]
    assert cost.measured_costs(tmp_path / "none", RULES) == cost.stage_totals([]) == []


def estimate(**planned):
    config = load_paper_config()
    config = config.model_copy(update={"planning": config.planning.model_copy(update=planned)})
    rates = load(planning.Rates, "config/rates.yaml")
    return {row["stage"]: row for row in cost.estimated_costs(config, config.load_descriptors(), rates)}


def test_the_estimate_has_the_plan_s_jobs():
    jobs = {stage: row["jobs"] for stage, row in estimate().items()}
    assert jobs["caption"] == jobs["train: latents"] == jobs["prepare"] - 2 == 134
    assert (jobs["sample"], jobs["train: LoRA"], jobs["zero-shot"], jobs["models"]) == (80, 1, 4, 8)
    assert jobs["classify"] == 2 * (4 * 8 + 4 + 2 + 2) * 5


def test_training_takes_what_the_arithmetic_says():
    # 27 and 75 H100-hours for 2.5 million samples of 128 and 512 px, once more forward for checkpointing, and T5
    samples = 5 * 401_059, 5 * 118_744
    hours = 1.5 * (27 * samples[0] + 75 * samples[1]) / 2.5e6 + 0.0123 * sum(samples) / 3600
    assert estimate()["train: LoRA"]["gpu_hours"] == pytest.approx(hours, rel=0.01)


def test_a_slower_gpu_takes_longer():
    fast, slow = estimate(gpu="h100"), estimate(gpu="a100")
    assert slow["sample"]["gpu_hours"] == pytest.approx(fast["sample"]["gpu_hours"] / 0.32)
    assert fast["sample"]["gpu_kwh_at_most"] == pytest.approx(0.7 * fast["sample"]["gpu_hours"])


def test_the_estimate_is_shown_and_written(tmp_path, capsys):
    config = load_paper_config()
    cost.estimate_cost(config, config.load_descriptors(), tmp_path / "estimate.csv")
    shown = capsys.readouterr().out
    assert "gpu_hours" in shown and "planning.gpu: h100" in shown and "\n           all" in shown
    assert list(pd.read_csv(tmp_path / "estimate.csv")["basis"].dropna().unique()) == ["assumed", "arithmetic"]


def test_snakemake_s_rules_are_asked_for_their_stage_and_gpus():
    def rule(name, **resources):
        return SimpleNamespace(name=name, snakefile=f"/somewhere/rules/{name}.smk", resources=resources)

    shared = rule("classify", gpu=1, gpu_percent=50)
    workflow = SimpleNamespace(
        rules=[rule("train", gpu=SimpleNamespace(raw=4)), shared, rule("plot"), rule("x", gpu=len)]
    )
    assert cost.rules_of(workflow) == {
        "train": {"stage": "train", "gpus": 4}, "classify": {"stage": "classify", "gpus": 0.5},
        "plot": {"stage": "plot", "gpus": 0}, "x": {"stage": "x", "gpus": 0},
    }  # fmt: skip
