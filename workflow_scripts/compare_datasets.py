from dermaflux.compare import compare_datasets
from dermaflux.job import job

with job(snakemake.log[0]):
    shards = iter(snakemake.input.images)
    compare_datasets(
        datasets=[
            {**facts, "index": index, "manifest": manifest, "shards": [next(shards) for _ in range(count)]}
            for facts, index, manifest, count in zip(
                snakemake.params.datasets,
                snakemake.input.indexes,
                snakemake.input.manifests,
                snakemake.params.shards,
                strict=True,
            )
        ],
        paper=snakemake.input.paper,
        output=snakemake.output.table,
        labels=snakemake.output.labels,
        thresholds=snakemake.output.thresholds,
    )
