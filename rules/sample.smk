# Synthetic lesions from FLUX, with the LoRA or without.
def sampled_indices(wildcards):
    """(start, stop) of the samples in a shard."""
    generator = CONFIG.generator(wildcards.generator)
    start = int(wildcards.shard) * generator.shard_size
    return start, min(start + generator.shard_size, generator.per_label)


def adapter_weights(wildcards):
    adapter = CONFIG.generator(wildcards.generator).adapter
    return [f"<results>/lora/{adapter}/pytorch_lora_weights.safetensors"] if adapter else []


def sampling_settings(wildcards):
    keys = {"batch_size", "guidance", "scale", "seed", "steps", "text_tokens"}
    return CONFIG.generator(wildcards.generator).model_dump(include=keys)


rule sample_shard:
    input:
        adapter=adapter_weights,
        model=lambda wildcards: f"<results>/models/{CONFIG.generator(wildcards.generator).model}/revision.json",
    output:
        samples="<results>/samples/{generator}/{label}/{shard}.parquet",
        sheet="<results>/samples/{generator}/{label}/{shard}.jpg",
    log:
        "<logs>/sample_shard/{generator}-{label}-{shard}.log",
    benchmark:
        "<benchmarks>/sample_shard/{generator}-{label}-{shard}.tsv"
    conda:
        "../envs/flux.yaml"
    resources:
        gpu=1,
        mem_mb=64000,
        runtime=240,
    params:
        device=CONFIG.device,
        jpeg_quality=CONFIG.prepare.jpeg_quality,
        precision=CONFIG.precision,
        prompt=lambda wildcards: CONFIG.generator(wildcards.generator).prompt,
        settings=sampling_settings,
        start=lambda wildcards: sampled_indices(wildcards)[0],
        stop=lambda wildcards: sampled_indices(wildcards)[1],
        code=code("sample_shard"),
    script:
        "../workflow_scripts/sample_shard.py"
