"""What could fail late in a run, looked at before it starts: one table of checks, each with what to do."""

import csv
import re
import shutil
import subprocess
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import yaml

from dermaflux import planning
from dermaflux.before_start import check_captioner
from dermaflux.closed import load
from dermaflux.download import HOW_TO_LOG_IN, fetched_by_hand, login
from dermaflux.errors import UserError
from dermaflux.files import atomic_path, read_json
from dermaflux.job import show
from dermaflux.models import RECORD, check_model

CONDA_VERSION = (24, 7, 1)  # Snakemake asks for it
WIDTHS = {"check": 14, "what": 50, "state": 5, "to_do": 51}  # characters of the table on the terminal


@dataclass(frozen=True)
class Check:
    """One row: the kind of check, what was found, its state (ok | warn | fail), and what to do about it."""

    check: str
    what: str
    state: str
    to_do: str = ""


def preflight(config, descriptors, results, table, partitions, conda, environments="envs"):
    """Check everything that could fail late, print the table, and write it to `table` (CSV).

    Args:
        config: config.Config.
        descriptors: dict of name -> Descriptor.
        results: folder of the run.
        partitions: names of the SLURM partitions that jobs are sent to; None where the run does not use SLURM.
        conda: whether the run makes its environments with conda.
        environments: folder of the environments' files.

    Raises:
        UserError: a check failed; the table says what to do.
    """
    rates, results = load(planning.Rates, config.planning.rates), Path(results)
    checks = [
        *check_credentials(config, descriptors, results),
        *check_models(config, results),
        *check_archives(config, descriptors, results),
        *check_disk(planning.disk_by_stage(config, descriptors, rates), results),
        *check_sizes(config, descriptors, results),
        *check_gpu_memory(config, rates, gpu_memory(config, rates)),
        *check_environments(sorted(Path(environments).glob("*.yaml")), conda),
        *check_programs(config, conda),
        *check_partitions(partitions),
    ]
    with atomic_path(table) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[field.name for field in fields(Check)], *map(astuple, checks)])
    show([as_text(checks) + "\n"])
    if failed := sum(check.state == "fail" for check in checks):
        raise UserError(
            f"{failed} of {len(checks)} checks failed; the table above ({table}) says what to do about each"
        )


def as_text(checks):
    """The checks as a table for the terminal."""
    lines = [_line([name.replace("_", " ").upper() for name in WIDTHS])]
    for check in checks:
        cells = [_wrapped(name, getattr(check, name)) for name in WIDTHS]
        height = max(map(len, cells))
        lines += [_line([cell[row] if row < len(cell) else "" for cell in cells]) for row in range(height)]
    return "\n".join(lines)


def _wrapped(name, text):
    """A cell's lines. In the last column addresses and paths stay whole, so that they can be copied."""
    whole = name == "to_do"
    return textwrap.wrap(text, WIDTHS[name], break_long_words=not whole, break_on_hyphens=not whole) or [""]


def _line(cells):
    return " ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS.values(), strict=True)).rstrip()


def _missing_archives(config, descriptors, results):
    """(dataset's descriptor, archive) of each file that is still to be downloaded from its source."""
    if config.paint:
        return []
    return [
        (descriptor, archive)
        for name, descriptor in descriptors.items()
        if name not in config.mirrors
        for archive in descriptor.archives
        if not (results / "raw" / name / archive.name).exists()
    ]


def check_credentials(config, descriptors, results):
    """Logins and keys that the run will ask for."""
    checks, wanted = [], {}
    for descriptor, _ in _missing_archives(config, descriptors, results):
        wanted.setdefault(descriptor.access, []).append(descriptor.name)
    if any(config.models[name].startswith("hf:") for name in config.used_models()):
        wanted.setdefault("huggingface", []).append("models")
    for access, env in (("huggingface", "HF_TOKEN"), ("kaggle", "KAGGLE_KEY")):
        if access in wanted:
            who = f"{access}, for {', '.join(dict.fromkeys(wanted[access]))}"
            if any(login(access)):
                checks.append(Check("credentials", f"{who}: found", "ok"))
            elif access == "huggingface":  # open models and datasets need none
                checks.append(Check("credentials", f"{who}: {env} is not set", "warn", HOW_TO_LOG_IN[access]))
            else:
                checks.append(Check("credentials", f"{who}: {env} is not set", "fail", HOW_TO_LOG_IN[access]))
    name = config.caption.captioner
    try:
        check_captioner(config.caption_settings(name))
        checks.append(Check("credentials", f"captioner {name} has the key or file that it needs", "ok"))
    except UserError as error:
        checks.append(Check("credentials", f"captioner {name}", "fail", str(error)))
    return checks


def check_models(config, results):
    """Each model is here, or can be fetched at its revision with our login."""

    def check(name):
        source, record = config.models[name], results / "models" / name / RECORD
        if record.exists() and read_json(record)["source"] == source:
            return Check("model", f"{name}: fetched, {read_json(record)['revision'][:12]}", "ok")
        try:
            revision, size = check_model(source)
        except UserError as error:
            return Check("model", f"{name}: {source}", "fail", str(error))
        return Check("model", f"{name}: {source} is {revision[:12]}, {size / 1e9:.1f} GB", "ok")

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(check, config.used_models()))


def check_archives(config, descriptors, results):
    """Files that only a person can fetch are in place, and checksums are known."""
    checks, unknown = [], {}
    for descriptor, archive in _missing_archives(config, descriptors, results):
        pin = Path(config.pins, descriptor.name, f"{archive.name}.json")
        if not archive.sha256 and not pin.exists():
            unknown.setdefault(descriptor.name, []).append(archive.name)
        if descriptor.access == "manual":
            state = results / "state" / "download" / descriptor.name
            try:
                fetched_by_hand(archive.name, state, descriptor.url, descriptor.instructions)
                checks.append(Check("manual file", f"{descriptor.name}: {archive.name} is in place", "ok"))
            except UserError as error:
                checks.append(Check("manual file", f"{descriptor.name}: {archive.name}", "fail", str(error)))
    if unknown:
        files = sum(map(len, unknown.values()))
        what = f"not known of {files} {'file' if files == 1 else 'files'}, of {', '.join(unknown)}"
        to_do = f"Nothing now: the first download pins what comes, in {config.pins}; commit that."
        checks.append(Check("checksums", what, "warn", to_do))
    return checks or [Check("archives", "all are here, painted or mirrored", "ok")]


def check_disk(stages, results):
    """Bytes of each stage (dict), at most, against the free space where `results` will be."""
    place = next(folder for folder in [results.absolute(), *results.absolute().parents] if folder.exists())
    here = sum(path.stat().st_size for path in results.rglob("*") if path.is_file() and not path.is_symlink())
    checks = [Check("disk", f"{stage}: at most {size / 1e9:,.1f} GB", "ok") for stage, size in stages.items()]
    missing, free = max(0.0, sum(stages.values()) - here), shutil.disk_usage(place).free
    what = f"{missing / 1e9:,.0f} GB may be still to come, {free / 1e9:,.0f} GB are free at {place}"
    to_do = "Free some space, or point `pathvars: results` at a larger disk."
    return [*checks, Check("disk", what, "ok") if missing <= free else Check("disk", what, "fail", to_do)]


def check_sizes(config, descriptors, results):
    """Files whose size nobody publishes, which the estimate of the disk leaves out."""
    unknown = [d.name for d, archive in _missing_archives(config, descriptors, results) if archive.megabytes() is None]
    if not unknown:
        return []
    what = f"download: the size of {len(unknown)} more files is not published ({', '.join(dict.fromkeys(unknown))})"
    return [Check("disk", what, "warn", "Leave some space beyond the estimate.")]


def gpu_memory(config, rates):
    """(GB of one GPU, whose word that is): the least of this machine's, or else of `planning.gpu`.

    Raises:
        UserError: `planning.gpu` is not in the rates.
    """
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"], capture_output=True, text=True
        )
        if sizes := [float(line) for line in found.stdout.split() if line.isdigit()]:
            return min(sizes) * 2**20 / 1e9, "nvidia-smi"
    except OSError:
        pass
    return planning.chosen_gpu(config, rates).memory_gb, f"planning.gpu: {config.planning.gpu}"


def check_gpu_memory(config, rates, memory):
    """What each stage needs on one GPU against `memory`, (GB, whose word that is)."""
    if config.device == "cpu":
        return [Check("GPU memory", "`device: cpu`: no GPU is used", "ok")]
    there, source = memory
    advice = {
        "train": "Larger GPUs, gradient_checkpointing, or a smaller lora.batch_size per GPU (lora.gpus shares it out).",
        "caption": "Larger GPUs, or shorter --max-model-len and fewer --max-num-seqs in the captioner's arguments.",
    }
    checks = []
    for stage, needed in planning.gpu_memory_by_stage(config, rates).items():
        what = f"{stage}: about {needed:.0f} of {there:.0f} GB ({source})"
        to_do = "" if needed <= there else advice.get(stage.split()[0], "Larger GPUs, or a smaller batch_size.")
        checks.append(Check("GPU memory", what, "fail" if to_do else "ok", to_do))
    return checks


def check_environments(files, conda):
    """The environments' files can be read and pin everything; where they are used, conda is there and new enough."""
    checks = [_check_environment(path) for path in files]
    wrong = [check for check in checks if check.state != "ok"]
    checks = wrong or [Check("environments", f"{len(files)} files, every package pinned", "ok")]
    if not conda:
        return [*checks, Check("environments", "conda is not used: jobs run in the environment of snakemake", "ok")]
    return [*checks, _check_conda()]


def _check_environment(path):
    try:
        dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
        pins = [pin for part in dependencies if isinstance(part, dict) for pin in part["pip"]]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        return Check("environments", f"{path}: {type(error).__name__}", "fail", f"Correct it as YAML: {error}")
    loose = [pin for pin in pins if not re.fullmatch(r"[\w.\[\]-]+==[\w.+!-]+", pin)]
    if loose:
        return Check("environments", f"{path}: {', '.join(loose)}", "fail", "Pin an exact version, NAME==VERSION.")
    return Check("environments", str(path), "ok")


def _check_conda():
    needed = ".".join(map(str, CONDA_VERSION))
    to_do = f"Install conda {needed} or newer (Miniforge, for example) and put it on the PATH."
    try:
        said = subprocess.run(["conda", "--version"], capture_output=True, text=True).stdout
    except OSError:
        return Check("environments", "conda is not on the PATH", "fail", to_do)
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    if not found or tuple(map(int, found.groups())) < CONDA_VERSION:
        return Check("environments", f"conda is too old: {said.strip() or 'no version'}", "fail", to_do)
    return Check("environments", said.strip(), "ok")


def check_programs(config, conda):
    """The captioner's server can be started, where no environment brings it."""
    command = getattr(config.captioners[config.caption.captioner], "command", None)
    if command is None or conda:
        return []
    if shutil.which(command[0]):
        return [Check("programs", f"{command[0]} is on the PATH", "ok")]
    to_do = "Run with --sdm conda, whose environment has it, or name its path in the captioner's `command`."
    return [Check("programs", f"{command[0]}, which serves the captioner, is not on the PATH", "fail", to_do)]


def check_partitions(names):
    """The SLURM partitions called `names` exist; None: SLURM is not used."""
    if names is None:
        return [Check("SLURM", "not used", "ok")]
    try:
        found = subprocess.run(["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True)
    except OSError:
        return [Check("SLURM", "sinfo is not on the PATH", "fail", "Run this where jobs are submitted: a login node.")]
    if found.returncode:
        return [Check("SLURM", f"sinfo: {found.stderr.strip()}", "fail", "Ask the cluster's people: SLURM is down.")]
    known = sorted(set(found.stdout.split()))
    if not names:
        return [Check("SLURM", f"the cluster's default partition, of {', '.join(known)}", "ok")]
    to_do = f"Correct it in profiles/slurm/config.yaml; there are: {', '.join(known)}."
    return [
        Check("SLURM", f"partition {name}", "ok")
        if name in known
        else Check("SLURM", f"partition {name}", "fail", to_do)
        for name in names
    ]


def partitions_of(resources, file=None):
    """Names of the partitions that jobs may be sent to (list of str).

    Args:
        resources: dicts of resources, as a profile gives them: those with a `slurm_partition` count.
        file: path of a partition file of Snakemake's SLURM plugin, or None.
    """
    values = [its.get("slurm_partition") for its in resources]
    names = [name.strip("\"' ") for value in values for name in str(value or "").split(",")]
    if file:
        names += yaml.safe_load(Path(file).read_text(encoding="utf-8"))["partitions"]
    return list(dict.fromkeys(name for name in names if name not in ("", "null", "None")))


def planned_partitions(workflow):
    """`partitions_of` Snakemake's workflow with its profile; None where it does not use SLURM."""
    if workflow.executor_plugin is None or workflow.executor_plugin.name != "slurm":
        return None
    settings = workflow.resource_settings
    sources = [settings.default_resources or {}, *settings.overwrite_resources.values()]
    # Snakemake keeps a resource as an object with the text that it came from
    asked = [{name: getattr(value, "raw", value) for name, value in source.items()} for source in sources]
    return partitions_of(asked, getattr(workflow.executor_settings, "partition_config", None))
