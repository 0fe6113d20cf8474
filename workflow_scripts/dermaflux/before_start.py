"""What a run makes sure of before its first job."""

from dermaflux.config import check_captioner
from dermaflux.download import fetched_by_hand
from dermaflux.run_lock import hold_run_lock


def check_before_start(jobs, captioner):
    """Stop before anything long has started where a planned job lacks what only a person can give.

    Args:
        jobs: the planned jobs (Snakemake's: rule.name, params, wildcards).
        captioner: name of the captioner that caption jobs use.

    Raises:
        UserError: another run is at work here; a file must be fetched by hand; the captioner is not built in.
    """
    hold_run_lock()
    for job in jobs:
        if job.rule.name == "caption_shard":
            check_captioner(captioner)
        elif job.rule.name == "download_archive" and job.params.source["access"] == "manual":
            source = job.params.source
            fetched_by_hand(job.wildcards.archive, job.params.state, source["page"], source["instructions"])
