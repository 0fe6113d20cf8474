"""Running the workflow as a user would: fresh clones, commands, and what Snakemake plans."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT

SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")


def fresh_clone(folder):
    """A copy of the checkout as git would clone it, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    for name in sorted({os.fsdecode(name) for name in listed if name}):
        source, target = ROOT / name, folder / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return folder


def snakemake(folder, *arguments, check=True, **options):
    """Run Snakemake in `folder`; returns the finished process, with stdout and stderr in stdout."""
    merged = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run([SNAKEMAKE, *map(str, arguments)], cwd=folder, **merged, **options)
    assert not check or done.returncode == 0, done.stdout[-5000:]
    return done


@dataclass(frozen=True)
class Plan:
    """What Snakemake would run: `counts`, rule -> number of jobs; `jobs`, rule -> wildcards as Snakemake prints them.

    A rule with a message of its own (download_archive) prints that instead, to `messages`.
    """

    counts: dict
    jobs: dict
    messages: list


def plan(folder, *arguments):
    """The plan of a dry run in `folder`."""
    output = snakemake(folder, "-n", *arguments, "--quiet", "host").stdout  # a profile may hide the jobs
    table = re.search(r"^Job stats:\n(.*?)^total", output, re.M | re.S)
    if table is None:
        assert "Nothing to be done" in output, output[-3000:]
        return Plan({}, {}, [])
    counts = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table[1], re.M) if rule != "all"}
    jobs = {rule: set() for rule in counts}
    for block in output.split("\nrule ")[1:]:
        rule, wildcards = block.split(":")[0], re.search(r"wildcards: (.*)", block)
        jobs.setdefault(rule, set()).update([wildcards[1]] if wildcards else [])
    messages = re.findall(r"^Job \d+: (.*)", output, re.M)
    return Plan(counts, {rule: sorted(its) for rule, its in jobs.items()}, messages)


def planned(folder, *arguments):
    """Rule -> number of jobs that Snakemake would run in `folder`."""
    return plan(folder, *arguments).counts
