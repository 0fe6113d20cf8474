"""What a run makes sure of before its first job."""

from dermaflux.caption_asking import endpoint_key
from dermaflux.download import fetched_by_hand
from dermaflux.imported_captions import imported_file
from dermaflux.run_lock import hold_run_lock
from dermaflux.slurm import end_orphaned_jobs, mend_status_checks


def check_before_start(jobs, executor=None):
    """Stop before anything long has started where a planned job lacks what only a person can give.

    Args:
        jobs: the planned jobs (Snakemake's: rule.name, params, wildcards).
        executor: Snakemake's, which will run them.

    Raises:
        UserError: another run is at work here, or an earlier one's SLURM jobs do not end; a file must be fetched by hand; a
            captioner has no key or no file.
    """
    hold_run_lock()
    end_orphaned_jobs()
    if type(executor).__module__ == "snakemake_executor_plugin_slurm":
        mend_status_checks(executor)
    for job in jobs:
        if job.rule.name == "download_archive" and job.params.source["access"] == "manual":
            source = job.params.source
            fetched_by_hand(job.wildcards.archive, job.params.state, source["page"], source["instructions"])
        elif job.rule.name in ("caption_shard", "caption_compared"):
            check_captioner(job.params.settings)


def check_captioner(settings):
    """Raise a UserError where a captioner (dict, config.Captioner) lacks its key or file."""
    if settings["backend"] == "openai":
        endpoint_key(settings)
    elif settings["backend"] == "imported":
        imported_file(settings["file"])
