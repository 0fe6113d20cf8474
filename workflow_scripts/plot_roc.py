from dermaflux.job import job
from dermaflux.plots import plot_roc

with job(snakemake.log[0]):
    plot_roc(
        predictions=snakemake.input.predictions,
        metrics=snakemake.input.metrics,
        zero_shot=dict(zip(snakemake.params.zero_shot, snakemake.input.zero_shot, strict=True)),
        output=snakemake.output.figure,
    )
