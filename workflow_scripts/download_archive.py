from dermaflux.download import download_archive
from dermaflux.job import job

with job(snakemake.log[0]):
    download_archive(
        path=snakemake.output.archive,
        painted=snakemake.input.get("painted"),
        state=snakemake.params.state,
        **snakemake.params.source,
    )
