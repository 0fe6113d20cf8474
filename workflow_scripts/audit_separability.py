from dermaflux.draws import released_rows, sample_rows
from dermaflux.job import job
from dermaflux.separability import audit_separability

with job(snakemake.log[0]):
    read_rows = {"sampled": sample_rows, "released": released_rows}
    shards, generators = iter(snakemake.input.generators), {}
    for name, kind, count in zip(snakemake.params.names, snakemake.params.kinds, snakemake.params.shards, strict=True):
        paths = [next(shards) for _ in range(count)]
        generators[name] = (paths, read_rows[kind](paths))
    audit_separability(
        manifests=snakemake.input.manifests,
        shards=snakemake.input.images,
        generators=generators,
        output=snakemake.output.table,
        images=snakemake.params.images,
        seed=snakemake.params.seed,
    )
