# From prepared images to captions.
rule caption_shard:
    input:
        images=rules.prepare_shard.output.images,
        model=model_files(CAPTION_MODEL),
    output:
        captions="<results>/captions/{dataset}/{shard}.parquet",
    log:
        "<logs>/caption_shard/{dataset}-{shard}.log",
    benchmark:
        "<benchmarks>/caption_shard/{dataset}-{shard}.tsv"
    conda:
        "../envs/data.yaml" if CAPTION_MODEL is None else "../envs/caption.yaml"
    resources:
        gpu=0 if CAPTION_MODEL is None else 1,
        mem_mb=4000 if CAPTION_MODEL is None else 64000,
        runtime=720,
    params:
        captioner=CONFIG.caption.captioner,
        settings=CONFIG.captioners[CONFIG.caption.captioner].model_dump(mode="json"),
        # functions, or Snakemake would look for a wildcard {label}
        prompt=lambda wildcards: CONFIG.caption.prompt,
        seed=CONFIG.caption.seed,
        template=lambda wildcards: CONFIG.caption.template,
        code=code("caption_shard"),
    script:
        "../workflow_scripts/caption_shard.py"
