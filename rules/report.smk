# Every headline number in one file, and the whole run on one page.
report: "../report/workflow.rst"


rule write_report:
    input:
        images=image_shards(corpus_datasets()),
        captions=caption_files(),
        datasets=rules.compare_datasets.output.table,
        ambiguous=rules.compare_datasets.output.labels,
        thresholds=rules.compare_datasets.output.thresholds,
        copies=rules.report_leakage.output.matrix,
        arms=rules.compare_arms.output.table,
        models=rules.compare_models.output.table,
        claims=rules.compare_claims.output.table,
        caption_audit=rules.audit_captions.output.figures,
        confusion=rules.audit_captions.output.confusion,
        leakage=rules.report_leakage.output.sheet,
        loss=expand(rules.plot_loss.output.figure, adapter=CONFIG.lora.name),
        samples=rules.plot_samples.output.sheet,
        sweep=rules.plot_sweep.output.figure,
        roc=rules.plot_roc.output.figure,
        lora_log=expand(rules.train_lora.output.log, adapter=CONFIG.lora.name),
        generated=sample_files(),
        separability=rules.audit_separability.output.table,
        revisions=[model_files(name) for name in CONFIG.used_models()],
        template="report/overview.html.j2",
    output:
        overview=report(
            "<results>/report/overview.html",
            category="1 Overview",
            labels={"what": "the whole run on one page"},
        ),
        summary="<results>/report/summary.json",
        cost=report(
            "<results>/report/cost.csv",
            category="1 Overview",
            labels={"what": "time, memory, GPU time and energy of each rule"},
        ),
    log:
        "<logs>/write_report.log",
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        benchmarks=CONFIG.pathvars["benchmarks"],
        models=CONFIG.used_models(),
        rules=lambda wildcards: rules_of(workflow),
        settings=CONFIG.model_dump(mode="json"),
        code=code("write_report"),
    script:
        "../workflow_scripts/write_report.py"
