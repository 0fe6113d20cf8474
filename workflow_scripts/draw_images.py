from dermaflux.draws import manifest_rows, released_rows, sample_rows, write_draw
from dermaflux.job import job

with job(snakemake.log[0]):
    rows = {
        "real": lambda: manifest_rows(snakemake.input.manifests, "train"),
        "sampled": lambda: sample_rows(snakemake.input.shards),
        "released": lambda: released_rows(snakemake.input.shards),
    }[snakemake.params.kind]()
    write_draw(
        rows=rows,
        images=snakemake.params.images,
        seed=snakemake.params.seed,
        shards=snakemake.input.shards,
        output=snakemake.output.draw,
        what=snakemake.wildcards.source,
    )
