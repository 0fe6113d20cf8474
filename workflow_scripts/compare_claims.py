from dermaflux.compare import compare_claims
from dermaflux.job import job

with job(snakemake.log[0]):
    compare_claims(
        predictions=snakemake.input.predictions,
        metrics=snakemake.input.metrics,
        zero_shot=dict(zip(snakemake.params.zero_shot, snakemake.input.zero_shot, strict=True)),
        claims=snakemake.input.claims,
        output=snakemake.output.table,
        resamples=snakemake.params.bootstrap,
        seed=snakemake.params.seed,
    )
