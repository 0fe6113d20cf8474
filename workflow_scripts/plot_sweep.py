from dermaflux.job import job
from dermaflux.plots import plot_sweep

with job(snakemake.log[0]):
    plot_sweep(snakemake.input.arms, snakemake.input.paper, snakemake.output.figure, snakemake.params.generator)
