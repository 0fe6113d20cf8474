"""Captions: from an image and its label to the text that the generator trains on."""

import hashlib
import io

import numpy as np
from PIL import Image

from dermaflux.config import check_captioner
from dermaflux.job import progress
from dermaflux.measure import measure_lesion
from dermaflux.tables import CAPTIONS, read_table, table_writer

# Where the words change: the terciles of 49 real dermoscopic lesions (HAM10000 and ISIC 2019), centre-cropped.
ASYMMETRY = (0.17, 0.32)
BORDER = (0.04, 0.21)


def _grade(value, limits, words):
    return words[sum(value > limit for limit in limits)]


def _listing(words):
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def describe(attributes):
    """Attributes (measure.Attributes) in the words of the paper's captions.

    Returns:
        dict with asymmetry, border, color (a sentence each) and description (the three, joined).
    """
    shape = _grade(attributes.asymmetry, ASYMMETRY, ("symmetrical", "slightly asymmetrical", "asymmetrical"))
    edge = _grade(attributes.border, BORDER, ("smooth", "slightly irregular", "irregular and jagged"))
    tones = _listing(attributes.colors) if attributes.colors else "indistinct"
    variety = "uniform" if len(attributes.colors) < 3 else "varied"
    parts = {
        "asymmetry": f"The mole in the image is {shape}.",
        "border": f"Its border is {edge}.",
        "color": f"The color is {variety}, primarily {tones}.",
    }
    return {**parts, "description": " ".join(parts.values())}


def _measured(row, prompt, seed):
    return describe(measure_lesion(np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))))


CAPTIONERS = {"measured": _measured}


def caption_shard(images, output, captioner, settings, revision, prompt, template, seed, what):
    """Caption every kept image of a shard.

    Args:
        images: path of a shard (tables.IMAGES).
        output: path of the captions (tables.CAPTIONS), one row for each kept image.
        captioner: name of the captioner, which goes into the table.
        settings: dict of the captioner's settings (config.Captioner); `backend` is one of CAPTIONERS.
        revision: of the captioner's model; None for `measured`.
        prompt, template: str with {label}; the template also with {description}.
        what: the shard's name, for progress.

    Raises:
        UserError: this version has no such captioner.
    """
    backend = settings["backend"]
    check_captioner(backend)
    rows = read_table(images, ["image_id", "image", "label", "drop_reason"])
    kept = [row for row in rows.to_pylist() if row["drop_reason"] is None]
    with table_writer(output, CAPTIONS) as write:
        write(
            [
                _caption_row(row, CAPTIONERS[backend], captioner, revision, prompt, template, seed)
                for row in progress(kept, what)
            ]
        )


def _caption_row(row, describe_image, captioner, revision, prompt, template, seed):
    words = describe_image(row, prompt, seed)
    caption = template.format(label=row["label"], description=words["description"])
    return {
        "image_id": row["image_id"],
        "caption": caption,
        **words,
        "captioner": captioner,
        "revision": revision,
        "prompt_sha256": hashlib.sha256(prompt.format(label=row["label"]).encode()).hexdigest(),
        "seed": seed,
        "n_tokens": len(caption.split()),
    }
