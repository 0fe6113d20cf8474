from dermaflux.job import job
from dermaflux.leakage import report_leakage

with job(snakemake.log[0]):
    report_leakage(
        manifests=snakemake.input.manifests,
        shards=snakemake.input.images,
        pairs=snakemake.output.pairs,
        matrix=snakemake.output.matrix,
        sheet=snakemake.output.sheet,
    )
