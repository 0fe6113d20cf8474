from pathlib import Path

from dermaflux.job import job
from dermaflux.zero_shot import score_zero_shot

with job(snakemake.log[0], snakemake.resources):
    score_zero_shot(
        model_folder=Path(snakemake.input.model).parent,
        test=snakemake.input.test,
        predictions=snakemake.output.predictions,
        prompts=snakemake.params.prompts,
        batch_size=snakemake.params.batch_size,
        device=snakemake.params.device,
        what=f"score {snakemake.wildcards.model}",
    )
