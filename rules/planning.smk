# Before a week of computing. No part of `all`, and without outputs, so that they look anew each time.
rule preflight:
    log:
        "<logs>/preflight.log",
    retries: 0
    localrule: True
    conda:
        "../envs/fetch.yaml"
    params:
        conda=lambda wildcards: "CONDA" in {method.name for method in workflow.deployment_settings.deployment_method},
        partitions=lambda wildcards: planned_partitions(workflow),
        settings=CONFIG.model_dump(mode="json"),
        code=code("preflight"),
    script:
        "../workflow_scripts/preflight.py"


rule estimate_cost:
    log:
        "<logs>/estimate_cost.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    params:
        settings=CONFIG.model_dump(mode="json"),
        code=code("estimate_cost"),
    script:
        "../workflow_scripts/estimate_cost.py"
