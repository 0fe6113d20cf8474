from dermaflux.caption_audit import audit_captions
from dermaflux.job import job

with job(snakemake.log[0]):
    audit_captions(
        captions=snakemake.input.captions,
        shards=snakemake.input.images,
        words=snakemake.input.words,
        output=snakemake.output.figures,
        confusion=snakemake.output.confusion,
        images=snakemake.params.images,
        seed=snakemake.params.seed,
    )
