from pathlib import Path

from dermaflux.job import job

with job(snakemake.log[0]):
    from dermaflux.config import parse_config
    from dermaflux.cost import estimate_cost

    config = parse_config(snakemake.params.settings)
    estimate_cost(config, config.load_descriptors(), Path(config.pathvars["results"], "cost_estimate.csv"))
