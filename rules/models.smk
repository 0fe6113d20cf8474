# Models at pinned revisions.
# Only revision.json, written last, is declared. The weights lie beside it, undeclared on purpose: Snakemake deletes the
# declared outputs of a failed job, and a broken download of 34 GB should continue, not start anew.
rule fetch_model:
    output:
        revision="<results>/models/{model}/revision.json",
    log:
        "<logs>/fetch_model/{model}.log",
    benchmark:
        "<benchmarks>/fetch_model/{model}.tsv"
    retries: 2
    localrule: True  # where snakemake runs: the nodes of many clusters have no network
    conda:
        # the demo's toys are built, with torch
        lambda wildcards: (
            "../envs/fetch.yaml" if CONFIG.models[wildcards.model].startswith("hf:") else "../envs/classify.yaml"
        )
    resources:
        mem_mb=growing(2000),
        runtime=growing(720),
    params:
        source=lambda wildcards: CONFIG.models[wildcards.model],
        code=code("fetch_model"),
    script:
        "../workflow_scripts/fetch_model.py"
