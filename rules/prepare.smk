# From archives to one index a dataset and shards of prepared images.
rule index_dataset:
    input:
        archives=lambda wildcards: archives_of(wildcards.dataset),
    output:
        index="<results>/index/{dataset}.parquet",
    log:
        "<logs>/index_dataset/{dataset}.log",
    benchmark:
        "<benchmarks>/index_dataset/{dataset}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        facts=lambda wildcards: DATASETS[wildcards.dataset].index_facts(),
        ambiguous=CONFIG.labels.ambiguous,
        shard_size=CONFIG.prepare.shard_size,
        check_counts=CONFIG.prepare.check_counts,
        code=code("index_dataset"),
    script:
        "../workflow_scripts/index_dataset.py"


rule prepare_shard:
    input:
        index=rules.index_dataset.output.index,
        archives=lambda wildcards: image_archives_of(wildcards.dataset),
    output:
        images="<results>/images/{dataset}/{shard}.parquet",
    log:
        "<logs>/prepare_shard/{dataset}-{shard}.log",
    benchmark:
        "<benchmarks>/prepare_shard/{dataset}-{shard}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        shard=lambda wildcards: int(wildcards.shard),
        min_side=CONFIG.prepare.min_side,
        scales=CONFIG.prepare.scales,
        max_pixels=CONFIG.prepare.max_pixels,
        jpeg_quality=CONFIG.prepare.jpeg_quality,
        code=code("prepare_shard"),
    script:
        "../workflow_scripts/prepare_shard.py"
