"""What a run has cost, by Snakemake's benchmarks, and what one will cost, by the rates of config/rates.yaml."""

from pathlib import Path

import pandas as pd

from dermaflux import planning
from dermaflux.arms import all_arms
from dermaflux.closed import load
from dermaflux.files import atomic_path
from dermaflux.job import show

COLUMNS = (
    "stage",
    "rule",
    "jobs",
    "hours",
    "cpu_hours",
    "mean_load_percent",
    "peak_mb",
    "gpu_hours",
    "gpu_kwh_at_most",
)


def measured_costs(benchmarks, rules, watts=None):
    """What the jobs of each rule took, longest first: list of dicts with COLUMNS; None where something was not measured.

    hours is the sum of the jobs' durations, cpu_hours that of their processor time; mean_load_percent is of one core;
    peak_mb the largest job's proportional set size. gpu_hours is duration x GPUs of the job, busy or not, and
    gpu_kwh_at_most those hours at the board's full power: no counter of energy is read.

    Args:
        benchmarks: folder of Snakemake's benchmark files.
        rules: dict of rule -> {"stage": str, "gpus": of each of its jobs, a share where it shares one}.
        watts: board power of one GPU; None: no GPU was used.
    """
    rows = [_read_benchmark(path, benchmarks) for path in Path(benchmarks).rglob("*.tsv")]
    if not rows:
        return []
    costs = []
    for rule, its in pd.DataFrame(rows).groupby("rule"):
        facts, seconds = rules.get(rule, {"stage": None, "gpus": 0}), its["s"].sum()
        gpu_hours = seconds * facts["gpus"] / 3600 if watts else 0.0
        load_seconds = (its["load"] * its["s"]).sum(min_count=1)
        values = [facts["stage"], rule, len(its), seconds / 3600, its["cpu"].sum(min_count=1) / 3600]
        values += [
            load_seconds / seconds if seconds else None,
            its["mb"].max(),
            gpu_hours,
            gpu_hours * (watts or 0) / 1000,
        ]
        costs.append({column: _rounded(value) for column, value in zip(COLUMNS, values, strict=True)})
    return sorted(costs, key=lambda row: row["hours"], reverse=True)


def _read_benchmark(path, folder):
    frame = pd.read_csv(path, sep="\t", na_values=["-", "NA"])
    column = lambda name: pd.to_numeric(frame[name], errors="coerce").mean() if name in frame else float("nan")  # noqa: E731
    rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
    return {
        "rule": rule,
        "s": column("s"),
        "mb": column("max_pss"),
        "load": column("mean_load"),
        "cpu": column("cpu_time"),
    }


def _rounded(value):
    """A number to five decimals, None for what is missing; other values as they are."""
    if not isinstance(value, float):
        return value
    return None if pd.isna(value) else round(float(value), 5)


def stage_totals(costs):
    """The costs of all rules of a stage together, in the order of the first: list of dicts."""
    if not costs:
        return []
    frame = pd.DataFrame(costs)
    sums = ["jobs", "hours", "cpu_hours", "gpu_hours", "gpu_kwh_at_most"]
    totals = frame.groupby("stage", sort=False, dropna=False).agg({**dict.fromkeys(sums, "sum"), "peak_mb": "max"})
    rows = totals.reset_index().to_dict("records")
    return [{key: _rounded(value) for key, value in row.items()} for row in rows]


def write_costs(costs, path):
    """`measured_costs` as CSV; empty cells were not measured."""
    with atomic_path(path) as temporary:
        pd.DataFrame(costs, columns=COLUMNS).to_csv(temporary, index=False)


def rules_of(workflow):
    """What `measured_costs` wants to know of each rule of Snakemake's workflow."""

    def gpus(rule):
        # Snakemake keeps a resource as an object with what it was made from
        resources = {name: getattr(value, "raw", value) for name, value in rule.resources.items()}
        gpu, percent = resources.get("gpu", 0), resources.get("gpu_percent")
        if not isinstance(gpu, int) or not gpu:
            return 0
        return percent / 100 if isinstance(percent, int) else gpu

    return {rule.name: {"stage": Path(rule.snakefile).stem, "gpus": gpus(rule)} for rule in workflow.rules}


def estimated_costs(config, descriptors, rates):
    """What each stage will take on `planning.gpu`, at most: list of dicts of stage, jobs, gpu_hours, gpu_kwh, disk_gb, basis.

    Images that will be dropped or kept for testing count as if they were trained on; core_hours are those of preparing
    images, and of one core a GPU: None for the stages whose cores are not estimated.
    """
    gpu = planning.chosen_gpu(config, rates)
    scales = planning.images_by_scale(config, descriptors)
    images, flux = sum(scales.values()), rates.flux
    shards = sum(descriptors[name].shards(config.prepare.shard_size) for name in config.datasets)
    passes = (
        3 if config.lora.gradient_checkpointing else 2
    )  # forward, backward (as long, the weights being frozen), again
    epoch = sum(n * (passes * planning.at_scale(flux.forward_s, px) + flux.text_s) for px, n in scales.items())
    sampled = sum(2 * s.per_label * s.steps * planning.at_scale(flux.forward_s, s.scale) for s in config.samplers())
    arms, runs = all_arms(config.classify), len(config.classify.classifiers) * len(config.classify.seeds)
    read = runs * config.classify.epochs * sum(arm.real + arm.synthetic for arm in arms)
    tested = sum(descriptors[name].images for name in config.manifest.test_sets)
    tiles = sum(descriptors[name].images for name in config.datasets if descriptors[name].modality == "tbp_tile")
    prepared = tiles * rates.prepare_core_s["tbp_tile"] + (images - tiles) * rates.prepare_core_s["other"]
    captioner = config.caption_model(config.caption.captioner)
    disk = planning.disk_by_stage(config, descriptors, rates)
    seconds = {  # stage -> (jobs, H100 seconds, basis)
        "models": (len(config.used_models()), 0, ""),
        "download": (sum(len(descriptor.archives) for descriptor in descriptors.values()), 0, ""),
        "prepare": (sum(d.shards(config.prepare.shard_size) for d in descriptors.values()), 0, "assumed"),
        "caption": (shards, images * rates.caption_s if captioner else 0, "arithmetic"),
        "corpus": (2 * shards, 0, ""),
        "train: latents": (
            shards,
            sum(n * planning.at_scale(flux.encode_s, px) for px, n in scales.items()),
            "assumed",
        ),
        "train: LoRA": (1, config.lora.epochs * epoch, "arithmetic"),
        "sample": (sum(2 * sampler.shards() for sampler in config.samplers()), sampled, "arithmetic"),
        "classify": (len(arms) * runs, read * rates.classifier_s, "assumed"),
        "zero-shot": (len(config.zero_shot), len(config.zero_shot) * tested * rates.zero_shot_s, "assumed"),
    }
    on_cpu = config.device == "cpu"  # whose speed nobody has given
    rows = []
    for stage, (jobs, h100_seconds, basis) in seconds.items():
        hours = 0.0 if on_cpu else h100_seconds / gpu.speed / 3600
        rows.append({
            "stage": stage, "jobs": jobs, "gpu_hours": hours, "gpu_kwh_at_most": hours * gpu.watts / 1000,
            "core_hours": prepared / 3600 if stage == "prepare" else hours or None, "disk_gb": disk.get(stage, 0.0) / 1e9,
            "basis": basis,
        })  # fmt: skip
    return rows


def estimate_cost(config, descriptors, path):
    """Print what the run will take, stage by stage, and write it to `path` (CSV).

    Raises:
        UserError: `planning.gpu` is not in the rates.
    """
    rows = estimated_costs(config, descriptors, load(planning.Rates, config.planning.rates))
    frame = pd.DataFrame(rows)
    with atomic_path(path) as temporary:
        frame.round(3).to_csv(temporary, index=False)
    total = {"stage": "all", "basis": "", **frame.drop(columns=["stage", "basis"]).sum().to_dict()}
    shown = pd.concat([frame, pd.DataFrame([total])], ignore_index=True).astype({"jobs": int})
    gpu = (
        "device: cpu, whose time is not estimated" if config.device == "cpu" else f"planning.gpu: {config.planning.gpu}"
    )
    show([shown.to_string(index=False, na_rep="", float_format="{:,.1f}".format) + "\n"])
    show(
        [
            f"At most, by {config.planning.rates} ({gpu}). Empty: not estimated. Energy is that of the GPUs at full power.\n"
        ]
    )
