"""Snakemake's own report of a finished run. It cannot be a job, since it looks at all of them."""

import subprocess
import sys
from pathlib import Path

import yaml

from dermaflux.files import write_text


def write_html_report(results, config, snakefile):
    """Write `results`/report/report.html if the run's overview is there and newer, and say where to look.

    Args:
        results: the run's folder.
        config: the configuration as it is, whichever files and arguments it came from: a dict.
        snakefile: path of the workflow.

    Raises:
        subprocess.CalledProcessError: Snakemake could not write it.
    """
    overview, page = Path(results, "report/overview.html"), Path(results, "report/report.html")
    if not overview.exists() or (page.exists() and page.stat().st_mtime >= overview.stat().st_mtime):
        return
    settings = Path(results, "state/config.yaml")
    write_text(settings, yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--configfile", settings]
    subprocess.run([*map(str, command), "--report", str(page), "--nolock", "--quiet", "all"], check=True)
    print(
        f"Done. Open {page}\n  the run on one page: {overview}\n  its numbers:         {overview.parent}/summary.json"
    )
