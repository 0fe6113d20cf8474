"""Experts judge captions: a blind sheet to fill in, and what the filled-in ones say.

A caption is known to reviewers by an opaque id alone; which captioner wrote it stands in a key that they do not get.
"""

import hashlib
import math

import pandas as pd
from sklearn.metrics import cohen_kappa_score

from dermaflux.captioner_study import data_url, descriptions, write_page
from dermaflux.errors import UserError
from dermaflux.files import fraction
from dermaflux.tables import read_table, write_csv

COLUMNS = ["review_id", "reviewer", "verdict", "comment"]
VERDICTS = ("accept", "reject")
Z = 1.959964  # of a 95 % interval


def review_id(seed, image_id, captioner):
    """The opaque id of a caption in the review sheet."""
    return hashlib.sha256(f"review\0{seed}\0{image_id}\0{captioner}".encode()).hexdigest()[:12]


def write_review_sheet(images, captions, template, sheet, key, seed):
    """Write the sheet that experts fill in, and the key to it.

    Args:
        images: path of the study's images.
        captions: dict captioner -> path of its captions.
        template: path of the sheet's Jinja template.
        sheet: self-contained HTML to write; the captions of an image stand in an order drawn for it.
        key: CSV to write: review_id, image_id, label, captioner.
        seed: of the orders.
    """
    texts = {name: descriptions(path) for name, path in captions.items()}
    shown, rows = [], []
    for image in read_table(images, ["image_id", "image", "label"]).to_pylist():
        id = image["image_id"]
        names = [name for name in texts if id in texts[name]]
        names.sort(key=lambda name: fraction("review", seed, id, name))
        of_image = [(review_id(seed, id, name), texts[name][id]) for name in names]
        shown.append({"picture": data_url(image["image"]), "label": image["label"], "captions": of_image})
        rows += [(review_id(seed, id, name), id, image["label"], name) for name in names]
    frame = pd.DataFrame(rows, columns=["review_id", "image_id", "label", "captioner"])
    version = hashlib.sha256("".join(frame["review_id"]).encode()).hexdigest()[:12]
    write_page(template, sheet, images=shown, version=version, count=len(frame))
    write_csv(key, frame.sort_values("review_id"))


def read_review(path, known):
    """A filled-in review sheet.

    Args:
        path: CSV with COLUMNS.
        known: set of the review ids that there are.

    Returns:
        (reviewer, dict review_id -> whether accepted).

    Raises:
        UserError: the file is not a whole and unambiguous review; the message says why.
    """
    frame = pd.read_csv(path, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    if missing := set(COLUMNS) - set(frame.columns):
        raise UserError(
            f"{path}: lacks the columns {sorted(missing)}; it has {list(frame.columns)}. Export it from the review sheet "
            "again, with commas between columns"
        )
    frame = frame.apply(lambda column: column.str.strip())
    names = sorted(set(frame["reviewer"]))
    if len(names) != 1 or not names[0]:
        raise UserError(f"{path}: a file holds one reviewer's verdicts, named in each row; found the names {names}")
    if len(unknown := sorted(set(frame["review_id"]) - known)):
        raise UserError(
            f"{path}: {len(unknown)} review ids are not in review_key.csv, the first is {unknown[0]!r}: the sheet is of "
            "another draw. Were images, seed or captioners of `caption_comparison` changed since?"
        )
    if len(twice := frame.loc[frame["review_id"].duplicated(), "review_id"]):
        raise UserError(f"{path}: {twice.iloc[0]} stands in more than one row; keep one of them")
    verdicts = dict(zip(frame["review_id"], frame["verdict"].str.lower()))
    if missing := sorted(id for id in known if not verdicts.get(id)):
        raise UserError(
            f"{path}: {len(missing)} of {len(known)} captions have no verdict, the first is {missing[0]}. "
            f"Ask {names[0]} to finish the sheet and to export it again"
        )
    if wrong := sorted(set(verdicts.values()) - set(VERDICTS)):
        raise UserError(f"{path}: a verdict is accept or reject, not {wrong[0]!r}")
    return names[0], {id: verdict == "accept" for id, verdict in verdicts.items()}


def score_reviews(key, reviews, folder, output):
    """Acceptance of each captioner by each reviewer and by both, with the reviewers' agreement.

    Args:
        key: path of review_key.csv.
        reviews: paths of one or two filled-in sheets (CSV).
        folder: where they were looked for, for the error.
        output: CSV to write, for each captioner and all of them: reviewer (a name, or "both": accepted by both),
            captions, accepted, acceptance with its 95 % Wilson interval, and for both Cohen's kappa (empty where both
            gave a single verdict throughout, for which it is undefined).
    """
    if len(reviews) not in (1, 2):
        raise UserError(
            f"{folder} (`caption_comparison.reviews`) holds {len(reviews)} review sheets (*.csv): put in those of one or "
            "two reviewers, as the review sheet exported them"
        )
    frame = pd.read_csv(key, dtype=str)
    verdicts = {}
    for path in reviews:
        reviewer, its = read_review(path, set(frame["review_id"]))
        if reviewer in verdicts:
            raise UserError(f"{path}: {reviewer!r} has already reviewed, in another file of {folder}; keep one of them")
        verdicts[reviewer] = its
    rows = []
    for captioner in [*dict.fromkeys(sorted(frame["captioner"])), "all captioners"]:
        ids = frame.loc[(frame["captioner"] == captioner) | (captioner == "all captioners"), "review_id"]
        judged = {name: [its[id] for id in ids] for name, its in verdicts.items()}
        if len(judged) == 2:
            first, second = judged.values()
            judged["both"] = [a and b for a, b in zip(first, second)]
        for name, accepted in judged.items():
            kappa = _kappa(first, second) if name == "both" else None
            rows.append({"captioner": captioner, "reviewer": name, **_acceptance(accepted), "kappa": kappa})
    write_csv(output, pd.DataFrame(rows))


def _kappa(first, second):
    return None if len({*first, *second}) == 1 else cohen_kappa_score(first, second)


def _acceptance(accepted):
    """Share of True with its 95 % Wilson score interval."""
    n, share = len(accepted), sum(accepted) / len(accepted)
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return {
        "captions": n,
        "accepted": sum(accepted),
        "acceptance": share,
        "acceptance_low": max(0.0, centre - half),
        "acceptance_high": min(1.0, centre + half),
    }
