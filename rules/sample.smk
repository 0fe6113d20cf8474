# Synthetic lesions from FLUX, with the LoRA or without.
rule sample_shard:
    input:
        adapter=lambda wildcards: adapter_files(GENERATORS[wildcards.generator].adapter),
        model=lambda wildcards: model_files(GENERATORS[wildcards.generator].model),
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
        gpu_percent=100,
        mem_mb=growing(64000),
        runtime=growing(240),
    params:
        device=CONFIG.device,
        jpeg_quality=CONFIG.prepare.jpeg_quality,
        precision=CONFIG.precision,
        prompt=lambda wildcards: GENERATORS[wildcards.generator].prompt,
        settings=lambda wildcards: GENERATORS[wildcards.generator].settings(),
        start=lambda wildcards: GENERATORS[wildcards.generator].indices(wildcards.shard)[0],
        stop=lambda wildcards: GENERATORS[wildcards.generator].indices(wildcards.shard)[1],
        code=code("sample_shard"),
    script:
        "../workflow_scripts/sample_shard.py"
