from pathlib import Path

from dermaflux.job import job

with job(snakemake.log[0], snakemake.resources):
    from dermaflux.launch import launch

    output = Path(snakemake.output.weights).parent
    state = output.parents[1] / "state" / "train_lora" / output.name
    arguments = {
        "manifest": list(snakemake.input.manifest),
        "captions": list(snakemake.input.captions),
        "latents": list(snakemake.input.latents),
        "model_folder": str(Path(snakemake.input.model).parent),
        "output": str(output),
        "state": str(state),
        "settings": dict(snakemake.params.settings),
        "device": snakemake.params.device,
        "precision": snakemake.params.precision,
        "checkpoint_every": snakemake.params.checkpoint_every,
        "code": snakemake.params.code,
    }
    if snakemake.resources.gpu > 1:
        nodes, gpus = snakemake.resources.get("nodes", 1), snakemake.params.device == "cuda"
        launch("lora_worker", arguments, state / "launch", snakemake.resources.gpu, nodes, snakemake.threads, gpus)
    else:
        from dermaflux.lora import train_lora
        from dermaflux.torch_setup import torch

        torch.set_num_threads(snakemake.threads)
        train_lora(**arguments)
