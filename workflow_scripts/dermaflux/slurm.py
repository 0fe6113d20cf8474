"""What a run on SLURM must know beyond Snakemake's plugin: jobs that a killed run left behind, and jobs that got lost."""

import asyncio
import os
import shutil
import subprocess
import time
from collections import Counter

from dermaflux.errors import UserError
from dermaflux.job import say

MISSES = 3  # looks at the queue in which a job is missing before it counts as lost


def _ask(*command):
    """Output of a SLURM command, or None where it fails (a controller that restarts, say)."""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def orphaned_jobs(folder):
    """Ids of this user's SLURM jobs that a run of Snakemake in `folder` has submitted and that have not ended.

    To be asked before the run at hand submits any, and while it holds the run lock: whatever is found has lost its run.
    """
    lines = (_ask("squeue", "--me", "--noheader", "--format=%i|%k|%Z") or "").splitlines()
    fields = [line.strip().split("|", 2) for line in lines]
    return [its[0] for its in fields if len(its) == 3 and its[1].startswith("rule_") and its[2] == str(folder)]


def end_orphaned_jobs(folder=None, patience=120.0):
    """Cancel the SLURM jobs that a killed run has left in `folder`, so that nobody writes beside the new run.

    They lose little: captions, training and sampling go on from their last checkpoint.

    Args:
        folder: working directory (default: the current one).
        patience: s to wait until they have ended.

    Raises:
        UserError: they do not end.
    """
    if shutil.which("squeue") is None:
        return
    folder = folder or os.getcwd()
    orphans = orphaned_jobs(folder)
    if not orphans:
        return
    say(f"cancelling {len(orphans)} SLURM job(s) that an earlier run left behind: {', '.join(orphans)}")
    _ask("scancel", *orphans)
    began = time.monotonic()
    while left := orphaned_jobs(folder):
        if time.monotonic() - began > patience:
            raise UserError(f"SLURM jobs {', '.join(left)} of an earlier run do not end: `scancel {' '.join(left)}`")
        time.sleep(1)


def mend_status_checks(executor):
    """Mend three habits of Snakemake's SLURM executor (2.8.0), any of which can leave a run waiting for ever or very long.

    It forgets the jobs that it asked about where the controller does not answer; here they are asked about again. It takes
    a job that is not in the queue for one that will be; but it may have been purged, or the controller may have lost its
    state, and after MISSES looks such a job fails here. And it looks ever less often, up to once in three minutes; here
    `--seconds-between-status-checks` is the longest it waits.

    Args:
        executor: snakemake_executor_plugin_slurm.Executor.
    """
    longest = executor.workflow.remote_execution_settings.seconds_between_status_checks
    check, misses = executor.check_active_jobs, Counter()
    finished = {}  # id of a submission -> itself: a controller that lost its state gives out SLURM's ids anew

    def noting(report):
        def noted(info, *arguments, **options):
            finished[id(info)] = info
            return report(info, *arguments, **options)

        return noted

    async def check_active_jobs(active_jobs):
        async for _ in check(active_jobs):
            pass  # what it yields leaves out the jobs that it forgets: all count that it has not reported
        executor.next_seconds_between_status_checks = min(executor.next_seconds_between_status_checks, longest)
        active = [info for info in active_jobs if id(info) not in finished]
        queue = "squeue", "--me", "--states=all", "--noheader", "--format=%i"
        known = await asyncio.to_thread(_ask, *queue) if active else ""
        for info in active:
            missing = known is not None and info.external_jobid not in known.split()
            misses[id(info)] = misses[id(info)] + 1 if missing else 0
            if misses[id(info)] < MISSES:
                yield info
            else:
                message = f"SLURM does not know job '{info.external_jobid}' any more: it was lost"
                executor.report_job_error(info, msg=message, aux_logs=[str(info.aux["slurm_logfile"])])

    executor.report_job_success = noting(executor.report_job_success)
    executor.report_job_error = noting(executor.report_job_error)
    executor.check_active_jobs = check_active_jobs
