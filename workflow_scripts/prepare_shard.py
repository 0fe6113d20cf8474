from dermaflux.images import prepare_shard
from dermaflux.job import job

with job(snakemake.log[0]):
    prepare_shard(
        index=snakemake.input.index,
        archives=snakemake.input.archives,
        output=snakemake.output.images,
        shard=snakemake.params.shard,
        min_side=snakemake.params.min_side,
        scales=snakemake.params.scales,
        max_pixels=snakemake.params.max_pixels,
        jpeg_quality=snakemake.params.jpeg_quality,
    )
