# DermaFlux, end to end. Wiring only: what each stage does stands in rules/, in the order of the data.
from snakemake.utils import min_version

min_version("9.27")


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/download.smk"
include: "rules/prepare.smk"
include: "rules/caption.smk"
include: "rules/compare_captioners.smk"
include: "rules/corpus.smk"
include: "rules/train.smk"
include: "rules/sample.smk"
include: "rules/classify.smk"
include: "rules/compare.smk"
include: "rules/audit.smk"
include: "rules/report.smk"
include: "rules/planning.smk"


# Targets that a person would type. Each asks for all that its stage makes.
rule all:
    default_target: True
    input:
        rules.write_report.output,
        corpus_files(),


rule download:
    input:
        archive_files(),


rule corpus:
    input:
        corpus_files(),


rule lora:
    input:
        expand(rules.train_lora.output, adapter=CONFIG.lora.name),


rule samples:
    input:
        sample_files(),


rule classifiers:
    input:
        prediction_files(),


rule report:
    input:
        rules.write_report.output,


rule captioner_study:
    input:
        rules.compare_captioners.output,
        rules.score_reviews.output if CONFIG.caption_comparison.reviews else [],


onstart:
    try:
        check_before_start(workflow.dag.needrun_jobs(), workflow.scheduler._executor)
    except UserError as error:
        raise WorkflowError(str(error)) from None


onsuccess:
    write_html_report(CONFIG.pathvars["results"], dict(config), workflow.main_snakefile)
