from dermaflux.job import job
from dermaflux.plots import plot_samples

with job(snakemake.log[0]):
    shards = iter(snakemake.input.generators)
    plot_samples(
        manifests=snakemake.input.manifests,
        shards=snakemake.input.images,
        generators={
            name: [next(shards) for _ in range(count)]
            for name, count in zip(snakemake.params.generators, snakemake.params.shards, strict=True)
        },
        output=snakemake.output.sheet,
        count=8,
    )
