from dermaflux.captions import caption_shard
from dermaflux.files import read_json
from dermaflux.job import job

with job(snakemake.log[0]):
    model = snakemake.input.get("model")
    caption_shard(
        images=snakemake.input.images,
        output=snakemake.output.captions,
        captioner=snakemake.wildcards.captioner,
        settings=snakemake.params.settings,
        revision=read_json(model)["revision"] if model else None,
        prompt=snakemake.params.prompt,
        template=snakemake.params.template,
        seed=snakemake.params.seed,
        what=f"caption the study's images with {snakemake.wildcards.captioner}",
    )
