from dermaflux.job import job
from dermaflux.manifest import write_slice

with job(snakemake.log[0]):
    shards = iter(snakemake.input.images)
    datasets = [
        (name, index, [next(shards) for _ in range(count)])
        for name, index, count in zip(
            snakemake.params.datasets, snakemake.input.indexes, snakemake.params.shards, strict=True
        )
    ]
    write_slice(
        dataset=snakemake.wildcards.dataset,
        datasets=datasets,
        output=snakemake.output.manifest,
        test_sets=snakemake.params.test_sets,
        groups=snakemake.params.groups,
        near_duplicate_bits=snakemake.params.near_duplicate_bits,
        near_duplicate_rmse=snakemake.params.near_duplicate_rmse,
    )
