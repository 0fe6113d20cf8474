from dermaflux.corpus import write_card
from dermaflux.job import job

with job(snakemake.log[0]):
    write_card(
        descriptors=snakemake.params.descriptors,
        manifests=snakemake.input.manifests,
        captions=snakemake.input.captions,
        output=snakemake.output.card,
        captioner=snakemake.params.captioner,
    )
