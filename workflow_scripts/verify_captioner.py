from pathlib import Path

from dermaflux.caption_gate import verify_captioner
from dermaflux.files import read_json
from dermaflux.job import job

with job(snakemake.log[0], snakemake.resources):
    verify_captioner(
        images=list(snakemake.input.images),
        output=snakemake.output.gate,
        settings=snakemake.params.settings,
        reference=snakemake.params.reference,
        prompt=snakemake.params.prompt,
        seed=snakemake.params.seed,
        count=snakemake.params.number,
        tolerance=snakemake.params.tolerance,
        model=Path(snakemake.input.model).parent,
        revision=read_json(snakemake.input.model)["revision"],
        state=snakemake.params.state,
        device=snakemake.params.device,
        precision=snakemake.params.precision,
    )
