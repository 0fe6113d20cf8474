"""From a source's diagnosis to our two labels."""

import json

from dermaflux.errors import UserError

MEANINGS = ("benign", "malignant", "ambiguous", "unlabelled")


def label_of(meaning, ambiguous):
    """(label, drop_reason) of a row whose diagnosis the descriptor gives `meaning`; one of the two is None.

    Args:
        meaning: one of MEANINGS, a value of the descriptor's `labels`.
        ambiguous: what actinic keratosis and its like count as: "malignant", "benign" or "exclude".
    """
    if meaning == "unlabelled":
        return None, "no_label"
    if meaning == "ambiguous":
        return (None, "ambiguous_label") if ambiguous == "exclude" else (ambiguous, None)
    return meaning, None


def unmapped(name, source, unknown):
    """The error for diagnoses that no line of the descriptor's `labels` maps.

    Args:
        name: the dataset.
        source: the file and column that they stand in.
        unknown: dict of diagnosis -> (number of rows, first row).
    """
    lines = [f"  {diagnosis!r}: {count:,} rows, the first is row {row}" for diagnosis, (count, row) in unknown.items()]
    paste = [
        f"  {json.dumps(diagnosis, ensure_ascii=False)}: benign  # or {', '.join(MEANINGS[1:])}"
        for diagnosis in unknown
    ]
    return UserError(
        f"{source}: the descriptor of {name} does not say what these diagnoses mean:\n" + "\n".join(lines)
        + f"\nAdd to `labels` in {name}.yaml, for example:\n" + "\n".join(paste)
    )  # fmt: skip
