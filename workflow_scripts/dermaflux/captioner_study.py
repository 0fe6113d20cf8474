"""The paper's study of captioners: the same images by several of them, side by side as figures and as a sheet to read."""

import base64
from pathlib import Path

import jinja2
import pandas as pd

from dermaflux.caption_audit import GRADES, audit_figures, measured_grade, readable
from dermaflux.caption_words import CaptionReader
from dermaflux.errors import UserError
from dermaflux.files import fraction, write_text
from dermaflux.measure import measure_lesion
from dermaflux.pictures import decode
from dermaflux.tables import IMAGES, LABELS, chosen_rows, read_frame, read_table, write_csv, write_table


def draw_comparison_images(manifests, shards, output, images, seed):
    """Draw the study's images: training images, half of each label, by a hash of (seed, id), labels mixed.

    Args:
        manifests, shards: of the datasets that may be redistributed, since a captioner may run elsewhere.
        output: path of the images (tables.IMAGES).
        images: how many, even.

    Raises:
        UserError: a label has too few.
    """
    rows = read_frame(manifests, ["image_id", "label", "use"]).query("use == 'train'")
    ranks = {id: fraction("captioner study", seed, id) for id in rows["image_id"]}
    drawn = set()
    for label in LABELS:
        ids = sorted(rows.loc[rows["label"] == label, "image_id"], key=ranks.get)
        if len(ids) < images // 2:
            raise UserError(
                f"the study of captioners needs {images // 2} {label} training images that may be redistributed, and there "
                f"are {len(ids)}: lower `caption_comparison.images` in the configuration"
            )
        drawn |= set(ids[: images // 2])
    columns = [name for name in IMAGES.names if name != "image_id"]
    found = [{"image_id": row.pop("id"), **row} for row in chosen_rows(shards, drawn, columns)]
    write_table(output, sorted(found, key=lambda row: ranks[row["image_id"]]), IMAGES)


def compare_captioners(images, captions, words, template, table, sheet):
    """Write the captioners' figures side by side, and the sheet that shows each image with what each wrote.

    Args:
        images: path of the study's images.
        captions: dict captioner -> path of its captions.
        words: path of the words (dermaflux.caption_words).
        template: path of the sheet's Jinja template.
        table: CSV to write, a row for each captioner, with the figures of `dermaflux.caption_audit`.
        sheet: self-contained HTML to write.
    """
    reader = CaptionReader(words)
    count = read_table(images, ["image_id"]).num_rows
    figures = {name: audit_figures([path], [images], reader, count, seed=0)[0] for name, path in captions.items()}
    frame = pd.DataFrame([{"captioner": name, **its} for name, its in figures.items()])
    write_csv(table, frame.drop(columns="sample"))  # each image is in it
    texts = {name: descriptions(path) for name, path in captions.items()}
    shown = [_shown(row, texts, reader) for row in read_table(images, ["image_id", "image", "label"]).to_pylist()]
    write_page(
        template,
        sheet,
        figures=[dict(readable(its)) for its in figures.values()],
        captioners=list(captions),
        images=shown,
    )


def descriptions(path):
    """Dict image_id -> description; images that a captioner gave up on are left out."""
    frame = read_frame(path, ["image_id", "description"]).dropna()
    return dict(frame.itertuples(index=False, name=None))


def _shown(row, texts, reader):
    """What the sheet shows of an image: its picture, what is measured, and each captioner's text with what it claims."""
    measured = measure_lesion(decode(row["image"]))
    grades = {name: measured_grade(name, getattr(measured, name)) for name in GRADES}
    captions = []
    for name in texts:
        text = texts[name].get(row["image_id"])
        claims = [(reader.grade(text or "", attribute), grades[attribute], attribute) for attribute in GRADES]
        differs = [GRADES[attribute][said] for said, seen, attribute in claims if said not in (None, seen)]
        wrong = text is not None and reader.contradicts(text, row["label"])
        captions.append({"text": text, "differs": differs, "contradicts": wrong})
    return {
        "id": row["image_id"],
        "label": row["label"],
        "picture": data_url(row["image"]),
        "measured": [f"{GRADES[name][grade]} ({getattr(measured, name):.2f})" for name, grade in grades.items()],
        "colors": list(measured.colors),
        "captions": captions,
    }


def data_url(image):
    """The JPEG in `image` (a row's {bytes, path}) as a URL that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(image['bytes']).decode()}"


def write_page(template, output, **values):
    """Render the Jinja template (a path) to HTML. All values are escaped: captions are text from elsewhere."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    write_text(output, environment.from_string(Path(template).read_text(encoding="utf-8")).render(**values))
