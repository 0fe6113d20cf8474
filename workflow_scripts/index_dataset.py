from dermaflux.index import index_dataset
from dermaflux.job import job

with job(snakemake.log[0]):
    index_dataset(
        archives=snakemake.input.archives,
        output=snakemake.output.index,
        facts=snakemake.params.facts,
        ambiguous=snakemake.params.ambiguous,
        shard_size=snakemake.params.shard_size,
        check_counts=snakemake.params.check_counts,
    )
