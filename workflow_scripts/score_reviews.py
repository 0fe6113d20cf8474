from dermaflux.captioner_reviews import score_reviews
from dermaflux.job import job

with job(snakemake.log[0]):
    score_reviews(
        key=snakemake.input.key,
        reviews=snakemake.input.get("reviews") or [],
        folder=snakemake.params.folder,
        output=snakemake.output.table,
    )
