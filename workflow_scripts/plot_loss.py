from dermaflux.job import job
from dermaflux.plots import plot_loss

with job(snakemake.log[0]):
    plot_loss(snakemake.input.log, snakemake.output.figure)
