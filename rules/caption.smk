# From prepared images to captions.
# Every reply of a model is kept under <results>/state/captions, undeclared on purpose: Snakemake deletes the declared
# outputs of a killed job, and nothing that was answered should be asked again.
CAPTIONER = CONFIG.captioners[CONFIG.caption.captioner]
GATE = CONFIG.gate(CONFIG.caption.captioner)


if GATE:

    # Before bulk work: the server against transformers, and many requests at once against one at a time.
    rule verify_captioner:
        input:
            # first shards of the first datasets: a dataset that is added comes last, and changes nothing here
            images=[image_shards([dataset])[0] for dataset in CONFIG.datasets[:3]],
            model=model_files(CAPTION_MODEL),
        output:
            gate="<results>/captions/gate.json",
        log:
            "<logs>/verify_captioner.log",
        benchmark:
            "<benchmarks>/verify_captioner.tsv"
        conda:
            "../envs/caption.yaml"
        resources:
            gpu=1,
            gpu_percent=100,
            mem_mb=growing(64000),
            runtime=growing(240),
        params:
            settings=CAPTIONER.model_dump(mode="json"),
            reference=CONFIG.captioners[GATE.reference].model_dump(mode="json"),
            # functions, or Snakemake would look for a wildcard {label}
            prompt=lambda wildcards: CONFIG.caption.prompt,
            seed=CONFIG.caption.seed,
            number=GATE.images,
            tolerance=GATE.tolerance,
            device=CONFIG.device,
            precision=CONFIG.precision,
            state=f"{CONFIG.pathvars['results']}/state/captions/gate",
            code=code("verify_captioner"),
        script:
            "../workflow_scripts/verify_captioner.py"


rule caption_shard:
    input:
        images=rules.prepare_shard.output.images,
        model=model_files(CAPTION_MODEL),
        # must have been passed; passing it once more says nothing new about captions that are there
        gate=ancient(rules.verify_captioner.output.gate) if GATE else [],
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
        gpu_percent=0 if CAPTION_MODEL is None else 100,
        mem_mb=growing(4000 if CAPTION_MODEL is None else 64000),
        runtime=growing(720),
    params:
        captioner=CONFIG.caption.captioner,
        settings=CONFIG.caption_settings(CONFIG.caption.captioner),
        # a function, or Snakemake would look for a wildcard {label}
        question=lambda wildcards: CONFIG.caption.question(),
        bad_share=CONFIG.caption.bad_share,
        placement=CONFIG.caption_placement(CONFIG.caption.captioner),
        state=lambda wildcards: f"{CONFIG.pathvars['results']}/state/captions/{wildcards.dataset}-{wildcards.shard}",
        code=code("caption_shard"),
    script:
        "../workflow_scripts/caption_shard.py"
