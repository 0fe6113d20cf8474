from pathlib import Path

from dermaflux.job import job

with job(snakemake.log[0], snakemake.resources):
    from dermaflux.latents import encode_shard
    from dermaflux.torch_setup import DTYPES, torch

    torch.set_num_threads(snakemake.threads)
    encode_shard(
        images=snakemake.input.images,
        model_folder=Path(snakemake.input.model).parent,
        output=snakemake.output.latents,
        device=snakemake.params.device,
        precision_dtype=DTYPES[snakemake.params.precision],
        what=f"encode {snakemake.wildcards.dataset}-{snakemake.wildcards.shard}",
    )
