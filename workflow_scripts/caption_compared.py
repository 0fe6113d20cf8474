from pathlib import Path

from dermaflux.captions import caption_shard
from dermaflux.files import read_json
from dermaflux.job import job

with job(snakemake.log[0], snakemake.resources):
    model, captioner = snakemake.input.get("model"), snakemake.wildcards.captioner
    caption_shard(
        images=snakemake.input.images,
        output=snakemake.output.captions,
        captioner=captioner,
        # the pace (config.PACE) is no param, and comes from the configuration itself
        settings={**snakemake.config["captioners"][captioner], **snakemake.params.settings},
        revision=read_json(model)["revision"] if model else None,
        what=f"caption the study's images with {captioner}",
        bad_share=1.0,  # how many a captioner fails is what the study asks
        state=snakemake.params.state,
        model=model and Path(model).parent,
        **snakemake.params.placement,
        **snakemake.params.question,
    )
