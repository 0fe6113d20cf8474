from dermaflux.captioner_study import draw_comparison_images
from dermaflux.job import job

with job(snakemake.log[0]):
    draw_comparison_images(
        manifests=snakemake.input.manifests,
        shards=snakemake.input.images,
        output=snakemake.output.images,
        images=snakemake.params.images,
        seed=snakemake.params.seed,
    )
