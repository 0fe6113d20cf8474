from pathlib import Path

from dermaflux.job import job
from dermaflux.models import fetch_model

with job(snakemake.log[0]):
    fetch_model(source=snakemake.params.source, folder=Path(snakemake.output.revision).parent)
