from pathlib import Path

from dermaflux.job import job

with job(snakemake.log[0], snakemake.resources):
    from dermaflux.samples import sample_shard
    from dermaflux.torch_setup import torch

    torch.set_num_threads(snakemake.threads)
    samples = Path(snakemake.output.samples)
    adapter = snakemake.input.get("adapter", [])
    sample_shard(
        model_folder=Path(snakemake.input.model).parent,
        adapter=adapter if isinstance(adapter, str) else next(iter(adapter), None),
        output=samples,
        sheet=snakemake.output.sheet,
        state=samples.parents[3] / "state" / "sample_shard",
        generator=snakemake.wildcards.generator,
        label=snakemake.wildcards.label,
        start=snakemake.params.start,
        stop=snakemake.params.stop,
        prompt=snakemake.params.prompt,
        settings=dict(snakemake.params.settings),
        jpeg_quality=snakemake.params.jpeg_quality,
        device=snakemake.params.device,
        precision=snakemake.params.precision,
        code=snakemake.params.code,
    )
