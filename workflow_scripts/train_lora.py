from pathlib import Path

from dermaflux.job import job

with job(snakemake.log[0], snakemake.resources):
    from dermaflux.lora import train_lora
    from dermaflux.torch_setup import torch

    torch.set_num_threads(snakemake.threads)
    output = Path(snakemake.output.weights).parent
    train_lora(
        manifest=list(snakemake.input.manifest),
        captions=list(snakemake.input.captions),
        latents=list(snakemake.input.latents),
        model_folder=Path(snakemake.input.model).parent,
        output=output,
        state=output.parents[1] / "state" / "train_lora" / output.name,
        settings=dict(snakemake.params.settings),
        device=snakemake.params.device,
        precision=snakemake.params.precision,
        checkpoint_every=snakemake.params.checkpoint_every,
        code=snakemake.params.code,
    )
