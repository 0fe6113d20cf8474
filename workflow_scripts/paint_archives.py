from dermaflux.demo_archives import paint_archives
from dermaflux.job import job

with job(snakemake.log[0]):
    paint_archives(
        dataset=snakemake.wildcards.dataset,
        folder=snakemake.output.folder,
        images=snakemake.params.images,
        seed=snakemake.params.seed,
    )
