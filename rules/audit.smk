# What a careful reader would check: leaks and copies, captions, and whether synthetic images show what their label says.
rule report_leakage:
    input:
        manifests=manifest_slices(),
        images=image_shards(corpus_datasets()),
    output:
        pairs="<results>/audit/leakage.csv",
        matrix=report(
            "<results>/audit/leakage_matrix.csv",
            category="2 What went in",
            labels={"what": "copies and leaks by dataset and partner"},
        ),
        sheet=report(
            "<results>/audit/leakage.jpg",
            category="2 What went in",
            labels={"what": "examples of copies and leaks"},
        ),
    log:
        "<logs>/report_leakage.log",
    benchmark:
        "<benchmarks>/report_leakage.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        code=code("report_leakage"),
    script:
        "../workflow_scripts/report_leakage.py"


rule audit_separability:
    input:
        manifests=manifest_slices(),
        images=image_shards(corpus_datasets()),
        generators=[shard for name in GENERATORS for shard in source_shards(name)],
    output:
        table=report(
            "<results>/audit/separability.json",
            category="3 The generator",
            labels={"what": "ROC-AUC of measured attributes on real and synthetic images"},
        ),
    log:
        "<logs>/audit_separability.log",
    benchmark:
        "<benchmarks>/audit_separability.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        images=2000,
        kinds=[CONFIG.source_kind(name) for name in GENERATORS],
        names=list(GENERATORS),
        seed=CONFIG.report.seed,
        shards=[len(source_shards(name)) for name in GENERATORS],
        code=code("audit_separability"),
    script:
        "../workflow_scripts/audit_separability.py"


rule audit_captions:
    input:
        captions=caption_files(),
        images=image_shards(corpus_datasets()),
        words=CONFIG.caption_audit.words,
    output:
        figures="<results>/audit/captions.json",
        confusion=report(
            "<results>/audit/captions_confusion.csv",
            category="2 What went in",
            labels={"what": "captions: claimed against measured attributes"},
        ),
    log:
        "<logs>/audit_captions.log",
    benchmark:
        "<benchmarks>/audit_captions.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        images=CONFIG.caption_audit.images,
        seed=CONFIG.caption_audit.seed,
        code=code("audit_captions"),
    script:
        "../workflow_scripts/audit_captions.py"
