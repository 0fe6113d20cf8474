# The paper's tables and figures, ours beside its.
rule compare_datasets:
    input:
        indexes=expand(rules.index_dataset.output.index, dataset=corpus_datasets()),
        images=image_shards(corpus_datasets()),
        manifests=manifest_slices(),
        paper="config/paper_table1.csv",
    output:
        table=report(
            "<results>/tables/datasets.csv",
            category="2 What went in",
            labels={"what": "images by dataset, label, scale and reason of exclusion"},
        ),
        labels=report(
            "<results>/tables/ambiguous_labels.csv",
            category="2 What went in",
            labels={"what": "labels under each setting for actinic keratosis and its like"},
        ),
        thresholds=report(
            "<results>/tables/thresholds.csv",
            category="2 What went in",
            labels={"what": "images that other filters by size would keep"},
        ),
    log:
        "<logs>/compare_datasets.log",
    benchmark:
        "<benchmarks>/compare_datasets.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        datasets=[
            DATASETS[dataset].model_dump(include={"name", "title", "modality", "licence", "images", "labels"})
            for dataset in corpus_datasets()
        ],
        shards=[len(shard_numbers(dataset)) for dataset in corpus_datasets()],
        code=code("compare_datasets"),
    script:
        "../workflow_scripts/compare_datasets.py"


rule compare_arms:
    input:
        predictions=prediction_files(),
        metrics=prediction_files("metrics.json"),
        figure="config/paper_figure5.csv",
    output:
        table=report(
            "<results>/tables/arms.csv",
            category="4 Classifiers",
            labels={"what": "every arm: accuracy and ROC-AUC, the paper's beside ours"},
        ),
    log:
        "<logs>/compare_arms.log",
    benchmark:
        "<benchmarks>/compare_arms.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        bootstrap=CONFIG.report.bootstrap,
        seed=CONFIG.report.seed,
        code=code("compare_arms"),
    script:
        "../workflow_scripts/compare_arms.py"


rule compare_models:
    input:
        predictions=prediction_files(),
        metrics=prediction_files("metrics.json"),
        zero_shot=zero_shot_files(),
        claims=CONFIG.report.claims,
    output:
        table=report(
            "<results>/tables/models.csv",
            category="4 Classifiers",
            labels={"what": "the best arms beside the zero-shot models"},
        ),
    log:
        "<logs>/compare_models.log",
    benchmark:
        "<benchmarks>/compare_models.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        bootstrap=CONFIG.report.bootstrap,
        seed=CONFIG.report.seed,
        zero_shot=list(ZERO_SHOT),
        code=code("compare_models"),
    script:
        "../workflow_scripts/compare_models.py"


rule compare_claims:
    input:
        predictions=prediction_files(),
        metrics=prediction_files("metrics.json"),
        zero_shot=zero_shot_files(),
        claims=CONFIG.report.claims,
    output:
        table=report(
            "<results>/tables/claims.csv",
            category="5 The paper's claims",
            labels={"what": "each claim with our difference and a verdict"},
        ),
    log:
        "<logs>/compare_claims.log",
    benchmark:
        "<benchmarks>/compare_claims.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        bootstrap=CONFIG.report.bootstrap,
        seed=CONFIG.report.seed,
        zero_shot=list(ZERO_SHOT),
        code=code("compare_claims"),
    script:
        "../workflow_scripts/compare_claims.py"


rule plot_sweep:
    input:
        arms=rules.compare_arms.output.table,
        paper="config/paper_figure5.csv",
    output:
        figure=report(
            "<results>/figures/sweep.svg",
            category="4 Classifiers",
            labels={"what": "accuracy against synthetic images per real one"},
        ),
    log:
        "<logs>/plot_sweep.log",
    benchmark:
        "<benchmarks>/plot_sweep.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        generator=CONFIG.classify.sweep.generator,
        code=code("plot_sweep"),
    script:
        "../workflow_scripts/plot_sweep.py"


rule plot_roc:
    input:
        predictions=prediction_files(),
        metrics=prediction_files("metrics.json"),
        zero_shot=zero_shot_files(),
    output:
        figure=report(
            "<results>/figures/roc.svg",
            category="4 Classifiers",
            labels={"what": "ROC curves"},
        ),
    log:
        "<logs>/plot_roc.log",
    benchmark:
        "<benchmarks>/plot_roc.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        zero_shot=list(ZERO_SHOT),
        code=code("plot_roc"),
    script:
        "../workflow_scripts/plot_roc.py"


rule plot_loss:
    input:
        log=rules.train_lora.output.log,
    output:
        figure=report(
            "<results>/figures/loss-{adapter}.svg",
            category="3 The generator",
            labels={"what": "training loss of {adapter}"},
        ),
    log:
        "<logs>/plot_loss/{adapter}.log",
    benchmark:
        "<benchmarks>/plot_loss/{adapter}.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        code=code("plot_loss"),
    script:
        "../workflow_scripts/plot_loss.py"


rule plot_samples:
    input:
        manifests=manifest_slices(),
        images=image_shards(corpus_datasets()),
        generators=[shard for name in GENERATORS for shard in source_shards(name)],
    output:
        sheet=report(
            "<results>/figures/samples.jpg",
            category="3 The generator",
            labels={"what": "synthetic images beside real ones"},
        ),
    log:
        "<logs>/plot_samples.log",
    benchmark:
        "<benchmarks>/plot_samples.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(16000),
        runtime=growing(60),
    params:
        generators=list(GENERATORS),
        shards=[len(source_shards(name)) for name in GENERATORS],
        code=code("plot_samples"),
    script:
        "../workflow_scripts/plot_samples.py"
