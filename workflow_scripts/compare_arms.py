from dermaflux.compare import compare_arms
from dermaflux.job import job

with job(snakemake.log[0]):
    compare_arms(
        predictions=snakemake.input.predictions,
        metrics=snakemake.input.metrics,
        figure=snakemake.input.figure,
        output=snakemake.output.table,
        resamples=snakemake.params.bootstrap,
        seed=snakemake.params.seed,
    )
