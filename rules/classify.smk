# From real and synthetic images to predictions on the test images.
rule draw_images:
    input:
        manifests=lambda wildcards: manifest_slices() if wildcards.source == "real" else [],
        shards=lambda wildcards: source_shards(wildcards.source),
    output:
        draw="<results>/classify/draws/{source}/seed{seed}.parquet",
    log:
        "<logs>/draw_images/{source}-seed{seed}.log",
    benchmark:
        "<benchmarks>/draw_images/{source}-seed{seed}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        images=lambda wildcards: needed(ARMS, wildcards.source),
        kind=lambda wildcards: CONFIG.source_kind(wildcards.source),
        seed=lambda wildcards: int(wildcards.seed),
        code=code("draw_images"),
    script:
        "../workflow_scripts/draw_images.py"


rule collect_test_images:
    input:
        manifests=expand(rules.decide_rows.output.manifest, dataset=CONFIG.manifest.test_sets),
        shards=image_shards(CONFIG.manifest.test_sets),
    output:
        images="<results>/classify/test.parquet",
    log:
        "<logs>/collect_test_images.log",
    benchmark:
        "<benchmarks>/collect_test_images.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        code=code("collect_test_images"),
    script:
        "../workflow_scripts/collect_test_images.py"


rule train_classifier:
    input:
        unpack(arm_draws),
        test=rules.collect_test_images.output.images,
        model=lambda wildcards: model_files(CLASSIFIERS[wildcards.classifier].model),
    output:
        predictions="<results>/classify/{arm}/{classifier}/seed{seed}/predictions.parquet",
        metrics="<results>/classify/{arm}/{classifier}/seed{seed}/metrics.json",
    log:
        "<logs>/train_classifier/{arm}-{classifier}-seed{seed}.log",
    benchmark:
        "<benchmarks>/train_classifier/{arm}-{classifier}-seed{seed}.tsv"
    conda:
        "../envs/classify.yaml"
    resources:
        gpu=1,
        gpu_percent=CONFIG.classify.gpu_percent(),
        mem_mb=growing(32000),
        runtime=growing(480),
    params:
        arm=lambda wildcards: ARMS_BY_NAME[wildcards.arm].facts(),
        device=CONFIG.device,
        seed=lambda wildcards: int(wildcards.seed),
        settings=lambda wildcards: CONFIG.classifier_settings(wildcards.classifier),
        code=code("train_classifier"),
    script:
        "../workflow_scripts/train_classifier.py"


rule score_zero_shot:
    input:
        test=rules.collect_test_images.output.images,
        model=lambda wildcards: model_files(ZERO_SHOT[wildcards.model].model),
    output:
        predictions="<results>/classify/zero_shot/{model}/predictions.parquet",
    log:
        "<logs>/score_zero_shot/{model}.log",
    benchmark:
        "<benchmarks>/score_zero_shot/{model}.tsv"
    conda:
        "../envs/classify.yaml"
    resources:
        gpu=1,
        gpu_percent=100,
        mem_mb=growing(16000),
        runtime=growing(120),
    params:
        batch_size=lambda wildcards: ZERO_SHOT[wildcards.model].batch_size,
        device=CONFIG.device,
        prompts=lambda wildcards: ZERO_SHOT[wildcards.model].prompts,
        code=code("score_zero_shot"),
    script:
        "../workflow_scripts/score_zero_shot.py"
