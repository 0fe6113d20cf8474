from itertools import groupby
from pathlib import Path

from dermaflux.job import job
from dermaflux.report import write_report

TABLES = ("datasets", "ambiguous", "thresholds", "copies", "arms", "models", "claims", "confusion")

with job(snakemake.log[0]):
    files = snakemake.input
    by_generator = groupby(files.generated, key=lambda path: Path(path).parts[-3])
    write_report(
        images=files.images,
        captions=files.captions,
        tables={name: files[name] for name in TABLES},
        figures={name: str(files[name]) for name in ("leakage", "loss", "samples", "sweep", "roc")},
        template=files.template,
        overview=snakemake.output.overview,
        summary_path=snakemake.output.summary,
        cost_path=snakemake.output.cost,
        examples=12,
        lora_log=str(files.lora_log),
        samples={name: list(paths) for name, paths in by_generator},
        caption_audit=files.caption_audit,
        separability=files.separability,
        models=dict(zip(snakemake.params.models, files.revisions, strict=True)),
        settings=snakemake.params.settings,
        benchmarks=snakemake.params.benchmarks,
        rules=snakemake.params.rules,
    )
