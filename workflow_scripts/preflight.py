from pathlib import Path

from dermaflux.job import job

with job(snakemake.log[0]):
    from dermaflux.config import parse_config
    from dermaflux.preflight import preflight

    config = parse_config(snakemake.params.settings)
    preflight(
        config=config,
        descriptors=config.load_descriptors(),
        results=config.pathvars["results"],
        table=Path(config.pathvars["results"], "preflight.csv"),
        partitions=snakemake.params.partitions,
        conda=snakemake.params.conda,
    )
