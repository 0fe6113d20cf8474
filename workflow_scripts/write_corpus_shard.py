from dermaflux.corpus import write_corpus_shard
from dermaflux.job import job

with job(snakemake.log[0]):
    write_corpus_shard(
        index=snakemake.input.index,
        images=snakemake.input.images,
        captions=snakemake.input.captions,
        manifest=snakemake.input.manifest,
        output=snakemake.output.rows,
        split=snakemake.wildcards.split,
    )
