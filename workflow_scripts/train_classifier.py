from pathlib import Path

from dermaflux.classifiers import train_classifier
from dermaflux.files import read_json
from dermaflux.job import job

with job(snakemake.log[0], snakemake.resources):
    train_classifier(
        model_folder=Path(snakemake.input.model).parent,
        real=snakemake.input.get("real"),
        synthetic=snakemake.input.get("synthetic"),
        test=snakemake.input.test,
        predictions=snakemake.output.predictions,
        metrics=snakemake.output.metrics,
        arm=snakemake.params.arm,
        classifier=snakemake.wildcards.classifier,
        settings=snakemake.params.settings,
        seed=snakemake.params.seed,
        device=snakemake.params.device,
        revision=read_json(snakemake.input.model)["revision"],
    )
