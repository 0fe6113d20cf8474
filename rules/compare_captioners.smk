# The paper's study of captioners, beside the run: `snakemake captioner_study`.
COMPARED = CONFIG.caption_comparison.captioners
# The images may be sent to whoever runs a captioner, so they come from what may be redistributed alone.
SHARED = [name for name in corpus_datasets() if DATASETS[name].redistribute]


rule draw_comparison_images:
    input:
        manifests=expand("<results>/corpus/manifest/{dataset}.parquet", dataset=SHARED),
        images=image_shards(SHARED),
    output:
        images="<results>/captioners/images.parquet",
    log:
        "<logs>/draw_comparison_images.log",
    benchmark:
        "<benchmarks>/draw_comparison_images.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        images=CONFIG.caption_comparison.images,
        seed=CONFIG.caption_comparison.seed,
        code=code("draw_comparison_images"),
    script:
        "../workflow_scripts/draw_comparison_images.py"


rule caption_compared:
    input:
        images=rules.draw_comparison_images.output.images,
        model=lambda wildcards: model_files(CONFIG.caption_model(wildcards.captioner)),
    output:
        captions="<results>/captioners/captions/{captioner}.parquet",
    log:
        "<logs>/caption_compared/{captioner}.log",
    benchmark:
        "<benchmarks>/caption_compared/{captioner}.tsv"
    wildcard_constraints:
        captioner="|".join(COMPARED),
    conda:
        lambda wildcards: (
            "../envs/data.yaml" if CONFIG.caption_model(wildcards.captioner) is None else "../envs/caption.yaml"
        )
    resources:
        gpu=lambda wildcards: 0 if CONFIG.caption_model(wildcards.captioner) is None else 1,
        gpu_percent=lambda wildcards: 0 if CONFIG.caption_model(wildcards.captioner) is None else 100,
        mem_mb=lambda wildcards, attempt: (4000 if CONFIG.caption_model(wildcards.captioner) is None else 64000)
        * attempt,
        runtime=growing(240),
    params:
        settings=lambda wildcards: CONFIG.caption_settings(wildcards.captioner),
        question=lambda wildcards: CONFIG.caption.question(),
        placement=lambda wildcards: CONFIG.caption_placement(wildcards.captioner),
        state=lambda wildcards: f"{CONFIG.pathvars['results']}/state/captions/compared-{wildcards.captioner}",
        code=code("caption_compared"),
    script:
        "../workflow_scripts/caption_compared.py"


rule compare_captioners:
    input:
        images=rules.draw_comparison_images.output.images,
        captions=expand("<results>/captioners/captions/{captioner}.parquet", captioner=COMPARED),
        words=CONFIG.caption_audit.words,
        comparison_template="report/comparison.html.j2",
        review_template="report/review.html.j2",
    output:
        table="<results>/captioners/comparison.csv",
        comparison="<results>/captioners/comparison.html",
        review="<results>/captioners/review.html",
        key="<results>/captioners/review_key.csv",
    log:
        "<logs>/compare_captioners.log",
    benchmark:
        "<benchmarks>/compare_captioners.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        captioners=COMPARED,
        seed=CONFIG.caption_comparison.seed,
        code=code("compare_captioners"),
    script:
        "../workflow_scripts/compare_captioners.py"


rule score_reviews:
    input:
        key=rules.compare_captioners.output.key,
        reviews=CONFIG.caption_comparison.filled_in_reviews(),
    output:
        table="<results>/captioners/reviews.csv",
    log:
        "<logs>/score_reviews.log",
    benchmark:
        "<benchmarks>/score_reviews.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        folder=CONFIG.caption_comparison.reviews,
        code=code("score_reviews"),
    script:
        "../workflow_scripts/score_reviews.py"
