from dermaflux.draws import write_test_images
from dermaflux.job import job

with job(snakemake.log[0]):
    write_test_images(
        manifests=snakemake.input.manifests,
        shards=snakemake.input.shards,
        output=snakemake.output.images,
    )
