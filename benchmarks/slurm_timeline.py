"""Which job of a small run ran on which device when, on a real SLURM: draws docs/slurm_timeline.svg.

.venv/bin/pytest -m slurm --basetemp /tmp/slurm_tests
.venv/bin/python benchmarks/slurm_timeline.py /tmp/slurm_tests/undisturbed0/jobs.json
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import matplotlib  # noqa: E402

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
import yaml  # noqa: E402

from slurm_cluster import SlurmJob  # noqa: E402

GROUPS = set(yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())["groups"].values())
ROWS = ("GPU 0", "GPU 1", "CPU")


def lanes(jobs):
    """Lane of each job: its GPU's row, or the first of the CPU rows that is free at its start."""
    ends, lane = [], {}
    for job in sorted(jobs, key=lambda job: job.start):
        if job.gpus:
            lane[job.id] = int(min(job.gpus))
            continue
        free = next((i for i, end in enumerate(ends) if end <= job.start), len(ends))
        ends[free:] = [job.end, *ends[free + 1 :]]
        lane[job.id] = 2 + free
    return lane


def rule_of(job):
    """A job's rule or, where several rules share a submission, their group."""
    name = job.rules.split("_wildcards_")[0]
    return next((group for group in GROUPS if name.startswith(f"{group}_")), name)


def draw(jobs, path):
    """Draw `jobs` (SlurmJobs) as bars over time."""
    jobs = [job for job in jobs if job.end > job.start > 0]
    began, lane = min(job.start for job in jobs), lanes(jobs)
    names = list(dict.fromkeys(rule_of(job) for job in sorted(jobs, key=lambda job: job.start)))
    colours = dict(zip(names, plt.get_cmap("tab20").colors * 2))
    figure, axes = plt.subplots(figsize=(10, 4))
    for job in jobs:
        rule = rule_of(job)
        axes.barh(
            lane[job.id],
            job.end - job.start,
            left=job.start - began,
            color=colours[rule],
            edgecolor="white",
            label=rule,
        )
    count = max(lane.values()) + 1
    axes.set_yticks(range(count), [*ROWS[:2], *[ROWS[2]] * (count - 2)])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    handles = dict(zip(*reversed(axes.get_legend_handles_labels())))
    axes.legend(handles.values(), handles.keys(), fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, bbox_inches="tight")


if __name__ == "__main__":
    recorded = [SlurmJob(**job) for job in json.loads(Path(sys.argv[1]).read_text())]
    draw(recorded, ROOT / "docs/slurm_timeline.svg")
