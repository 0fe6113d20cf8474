from dermaflux.captioner_reviews import write_review_sheet
from dermaflux.captioner_study import compare_captioners
from dermaflux.job import job

with job(snakemake.log[0]):
    files, made = snakemake.input, snakemake.output
    captions = dict(zip(snakemake.params.captioners, files.captions, strict=True))
    compare_captioners(files.images, captions, files.words, files.comparison_template, made.table, made.comparison)
    write_review_sheet(files.images, captions, files.review_template, made.review, made.key, snakemake.params.seed)
