# From single datasets to one corpus: which rows are used, and the published image-text pairs.
rule decide_rows:
    input:
        indexes=lambda wildcards: expand(rules.index_dataset.output.index, dataset=decided_with(wildcards.dataset)),
        images=lambda wildcards: image_shards(decided_with(wildcards.dataset)),
    output:
        manifest="<results>/corpus/manifest/{dataset}.parquet",
    log:
        "<logs>/decide_rows/{dataset}.log",
    benchmark:
        "<benchmarks>/decide_rows/{dataset}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        datasets=lambda wildcards: decided_with(wildcards.dataset),
        groups=CONFIG.manifest.groups,
        shards=lambda wildcards: [len(shard_numbers(dataset)) for dataset in decided_with(wildcards.dataset)],
        near_duplicate_bits=CONFIG.manifest.near_duplicate_bits,
        near_duplicate_rmse=CONFIG.manifest.near_duplicate_rmse,
        test_sets=CONFIG.manifest.test_sets,
        code=code("decide_rows"),
    script:
        "../workflow_scripts/decide_rows.py"


rule write_corpus_shard:
    input:
        index=rules.index_dataset.output.index,
        images=rules.prepare_shard.output.images,
        captions=rules.caption_shard.output.captions,
        manifest=rules.decide_rows.output.manifest,
    output:
        rows="<results>/corpus/data/{split}/{dataset}-{shard}.parquet",
    log:
        "<logs>/write_corpus_shard/{split}-{dataset}-{shard}.log",
    benchmark:
        "<benchmarks>/write_corpus_shard/{split}-{dataset}-{shard}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        code=code("write_corpus_shard"),
    script:
        "../workflow_scripts/write_corpus_shard.py"


rule write_corpus_card:
    input:
        manifests=manifest_slices(),
        captions=caption_files(),
    output:
        card="<results>/corpus/README.md",
    log:
        "<logs>/write_corpus_card.log",
    benchmark:
        "<benchmarks>/write_corpus_card.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        captioner=f"{CONFIG.caption.captioner} {CONFIG.models.get(CAPTION_MODEL, '')}",
        descriptors=[
            DATASETS[dataset].model_dump(include={"name", "title", "url", "licence", "citation", "redistribute"})
            for dataset in corpus_datasets()
        ],
        code=code("write_corpus_card"),
    script:
        "../workflow_scripts/write_corpus_card.py"
