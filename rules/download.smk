# The files that each source publishes, checked; in the demo from archives that are painted first.
rule paint_archives:
    output:
        folder=directory("<results>/mirror/{dataset}"),
    log:
        "<logs>/paint_archives/{dataset}.log",
    benchmark:
        "<benchmarks>/paint_archives/{dataset}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        images=CONFIG.paint.images if CONFIG.paint else None,
        seed=CONFIG.paint.seed if CONFIG.paint else None,
        code=code("paint_archives"),
    script:
        "../workflow_scripts/paint_archives.py"


# What is shown of a file before it is downloaded is no param: it does not determine the file.
# No `code` among the params either: what arrives is checked, whichever version of ours has fetched it.
rule download_archive:
    input:
        painted=lambda wildcards: painted_folder(wildcards.dataset),
    output:
        archive="<results>/raw/{dataset}/{archive}",
    log:
        "<logs>/download_archive/{dataset}/{archive}.log",
    benchmark:
        "<benchmarks>/download_archive/{dataset}/{archive}.tsv"
    wildcard_constraints:
        archive="[^/]+",
    localrule: True  # where snakemake runs: the nodes of many clusters have no network
    conda:
        "../envs/fetch.yaml"
    resources:
        mem_mb=growing(1000),
        runtime=growing(1440),
        size=lambda wildcards: DATASETS[wildcards.dataset].archive(wildcards.archive).size_in_words(),
        access=lambda wildcards: DATASETS[wildcards.dataset].access,
        licence=lambda wildcards: DATASETS[wildcards.dataset].licence,
    params:
        source=lambda wildcards: archive_source(wildcards.dataset, wildcards.archive),
        state=lambda wildcards: f"{CONFIG.pathvars['results']}/state/download/{wildcards.dataset}",
    message:
        "Download {wildcards.archive} of {wildcards.dataset}: {resources.size}, licence {resources.licence}, access {resources.access}"
    script:
        "../workflow_scripts/download_archive.py"
