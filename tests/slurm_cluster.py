"""A real SLURM on this machine, and a record of every job that it ran."""

import json
import re
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

SCRIPT = Path(__file__).with_name("slurm") / "cluster.sh"


@dataclass
class SlurmJob:
    """What SLURM said of a job. `rules`: as its comment names them; `gpus`: indices of the devices that it held."""

    id: str
    rules: str = ""
    state: str = ""
    partition: str = ""
    start: float = 0.0
    end: float = 0.0
    cpus: int = 0
    log: str = ""
    gpus: set = field(default_factory=set)

    @property
    def output(self):
        return Path(self.log).read_text()


class Cluster:
    """The cluster whose state lies in `folder`."""

    def __init__(self, folder):
        self.folder = folder

    def start(self, *options):
        subprocess.run([SCRIPT, "start", self.folder, *options], check=True, capture_output=True, text=True)

    def stop(self):
        subprocess.run([SCRIPT, "stop", self.folder], check=True, capture_output=True)

    def restart_controller(self, forget=False, away=0.0):
        """Stop the controller, and start it again after `away` s; `forget`: without its state, as after its disk's loss."""
        pid = (self.folder / "run/slurmctld.pid").read_text().strip()
        subprocess.run(["kill", "-9" if forget else "-15", pid], check=True)
        while alive(pid):
            time.sleep(0.1)
        time.sleep(away)
        subprocess.run(["slurmctld", "-i", *(["-c"] if forget else [])], check=True, capture_output=True)
        for _ in range(100):
            if "UP" in scontrol("ping"):
                return
            time.sleep(0.1)
        raise AssertionError("the controller does not come back")

    @contextmanager
    def recorded(self, folder, every=0.5):
        """Yield a dict id -> SlurmJob that follows the jobs which the run in `folder` has on the cluster."""
        jobs, ended = {}, threading.Event()

        def follow():
            while not ended.wait(every):
                update(jobs, folder)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield jobs
        finally:
            ended.set()
            thread.join()
            update(jobs, folder)


def alive(pid):
    """Whether a process runs (str); one that has ended and was not collected by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def save(jobs, path):
    """Write a record to a JSON file, for benchmarks/slurm_timeline.py."""
    Path(path).write_text(json.dumps([{**asdict(job), "gpus": sorted(job.gpus)} for job in jobs.values()]))


def scontrol(*arguments):
    return subprocess.run(["scontrol", *arguments], capture_output=True, text=True).stdout


def update(jobs, folder):
    """Bring `jobs` up to what SLURM says now of those that were submitted in `folder`."""
    for line in scontrol("show", "job", "--details", "--oneliner").splitlines():
        said = dict(re.findall(r"(\w+)=(\S*)", line))
        if said.get("WorkDir") != str(folder):
            continue
        job = jobs.setdefault(said["JobId"], SlurmJob(said["JobId"]))
        job.rules, job.state = said.get("Comment", "").removeprefix("rule_"), said["JobState"]
        job.partition, job.log, job.cpus = said["Partition"], said["StdOut"], int(said["NumCPUs"])
        job.start, job.end = seconds(said["StartTime"]), seconds(said["EndTime"])
        for low, high in re.findall(r"gpu[^(]*\(IDX:(\d+)(?:-(\d+))?", line):
            job.gpus.update(map(str, range(int(low), int(high or low) + 1)))


def seconds(stamp):
    """A time as SLURM prints it, in seconds since 1970; 0 where there is none yet."""
    return datetime.fromisoformat(stamp).timestamp() if stamp[:1].isdigit() else 0.0


def running(rule):
    """Ids of the running jobs of a rule (or group of rules)."""
    lines = subprocess.run(
        ["squeue", "-h", "-t", "R", "-o", "%i %k"], capture_output=True, text=True
    ).stdout.splitlines()
    return [line.split()[0] for line in lines if f"rule_{rule}" in line]
