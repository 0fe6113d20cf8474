# From prepared images and captions to the LoRA.
rule encode_shard:
    input:
        images=rules.prepare_shard.output.images,
        model=model_files(CONFIG.lora.model),
    output:
        latents="<results>/latents/{dataset}/{shard}.safetensors",
    log:
        "<logs>/encode_shard/{dataset}-{shard}.log",
    benchmark:
        "<benchmarks>/encode_shard/{dataset}-{shard}.tsv"
    conda:
        "../envs/flux.yaml"
    resources:
        gpu=1,
        gpu_percent=100,
        mem_mb=growing(16000),
        runtime=growing(60),
    params:
        device=CONFIG.device,
        precision=CONFIG.precision,
        code=code("encode_shard"),
    script:
        "../workflow_scripts/encode_shard.py"


rule train_lora:
    input:
        manifest=manifest_slices(),
        captions=caption_files(),
        latents=shards("<results>/latents/{dataset}/{shard}.safetensors", corpus_datasets()),
        model=model_files(CONFIG.lora.model),
    output:
        weights="<results>/lora/{adapter}/pytorch_lora_weights.safetensors",
        kohya="<results>/lora/{adapter}/{adapter}_kohya.safetensors",
        log="<results>/lora/{adapter}/log.csv",
        card="<results>/lora/{adapter}/README.md",
    log:
        "<logs>/train_lora/{adapter}.log",
    benchmark:
        "<benchmarks>/train_lora/{adapter}.tsv"
    conda:
        "../envs/flux.yaml"
    threads: 2 * CONFIG.lora.gpus
    resources:
        gpu=CONFIG.lora.gpus,
        gpu_percent=100 * CONFIG.lora.gpus,
        mem_mb=growing(96000),
        runtime=4320,  # goes on from its last checkpoint: no attempt needs more
    params:
        checkpoint_every=CONFIG.lora.checkpoint_every,
        device=CONFIG.device,
        precision=CONFIG.precision,
        settings=CONFIG.lora.training_settings(),
        code=code("train_lora"),
    script:
        "../workflow_scripts/train_lora.py"
