"""The published corpus: image-text pairs as Parquet that `datasets.load_dataset` reads, and its card."""

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from dermaflux.files import write_text
from dermaflux.tables import CORPUS, read_frame, read_table, table_writer

LICENCE_NAMES = {"CC-BY-4.0": "cc-by-4.0", "CC-BY-NC-4.0": "cc-by-nc-4.0", "CC0-1.0": "cc0-1.0"}


def write_corpus_shard(index, images, captions, manifest, output, split, row_group=64):
    """Write the rows of one shard that the manifest uses for `split` (train | test); there may be none.

    Args:
        index, images, captions, manifest: paths of the dataset's index, the shard's images and captions, and the
            dataset's slice of the manifest.
    """
    uses = read_frame(manifest, ["image_id", "use"])
    used = set(uses.loc[uses["use"] == split, "image_id"])
    words = read_table(captions, ["image_id", "caption", "error"]).to_pylist()
    captioned = {row["image_id"]: row["caption"] for row in words if row["error"] is None and row["image_id"] in used}
    facts = read_table(index, ["image_id", "diagnosis", "dataset", "modality", "licence"]).to_pylist()
    facts = {row["image_id"]: row for row in facts if row["image_id"] in captioned}
    pictures = read_table(images, ["image_id", "image", "label", "split", "scale"])
    wanted = [i for i, id in enumerate(pictures["image_id"].to_pylist()) if id in facts]
    with table_writer(output, CORPUS, row_group) as write:
        for batch in pictures.take(pa.array(wanted, pa.int64())).to_batches(max_chunksize=512):
            rows = [
                {**facts[row["image_id"]], **row, "caption": captioned[row["image_id"]]} for row in batch.to_pylist()
            ]
            write(rows)


def write_card(descriptors, manifests, captions, output, captioner):
    """Write the dataset card: what the corpus holds, under which licences, whom to cite.

    Args:
        descriptors: list of dicts with name, title, url, licence, citation, redistribute.
        manifests: paths of the slices, in the same order.
        captions: paths of all captions: images without one are not published, and counted.
        output: path of README.md beside `data/`.
        captioner: name of the captioner and model.
    """
    words = read_table(captions, ["image_id", "error"])
    missing = set(words.filter(pc.is_valid(words["error"]))["image_id"].to_pylist())
    rows, total, left_out = [], 0, 0
    for facts, manifest in zip(descriptors, manifests, strict=True):
        uses = read_frame(manifest, ["image_id", "use"])
        used = uses.loc[uses["use"].isin(["train", "test"]), "image_id"]
        without = int(used.isin(missing).sum())
        published = len(used) - without if facts["redistribute"] else 0
        left_out += without
        total += published
        note = "" if facts["redistribute"] else " (its terms forbid redistribution: used, not published)"
        rows.append(f"| [{facts['title']}]({facts['url']}){note} | {facts['licence']} | {published:,} |")
    licences = sorted({facts["licence"] for facts in descriptors if facts["redistribute"]})
    front = {
        "pretty_name": "DermaFlux corpus, reproduced",
        "license": LICENCE_NAMES.get(licences[0], "other") if len(licences) == 1 else "other",
        "task_categories": ["text-to-image", "image-classification"],
        "tags": ["dermatology", "skin-lesion"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": s, "path": f"data/{s}/*.parquet"} for s in ("train", "test")],
            }
        ],
    }
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        "# Skin lesions with captions",
        f"{total:,} image-text pairs, after cleaning and removal of duplicates. Captions: {captioner}; {left_out:,} images "
        "got none that could be used and are left out.",
        "Every row carries its own licence in the column `licence`. Not for diagnosis.",
        "",
        "| dataset | licence | images |",
        "|---|---|---|",
        *rows,
        "",
        "## Cite",
        *[f"- {facts['title']}: {facts['citation']}" for facts in descriptors],
    ]
    write_text(output, "\n".join(lines) + "\n")
