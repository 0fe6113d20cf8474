"""Captions under audit: how long and how varied they are, what they mention, and whether they say what was measured.

Over all captions: length, coverage, label contradictions, exact and near repeats. Over a seeded sample of them, since it
opens pictures or depends on how many captions there are: agreement with the measured attributes, and distinct n-grams.
"""

import zlib
from collections import Counter

import numpy as np
import pandas as pd

from dermaflux.caption_words import CaptionReader
from dermaflux.captions import ASYMMETRY, BORDER
from dermaflux.files import fraction, write_json
from dermaflux.measure import measure_lesion
from dermaflux.pictures import decode
from dermaflux.tables import chosen_rows, read_frame, write_csv

GRADES = {
    "asymmetry": ("symmetrical", "slightly asymmetrical", "asymmetrical"),
    "border": ("smooth", "slightly irregular", "irregular"),
}
LIMITS = {"asymmetry": ASYMMETRY, "border": BORDER}
NEAR = 0.8  # Jaccard similarity of two captions' word triples from which they count as near repeats
HASHES, BAND = 64, 4  # 16 bands of 4: texts of similarity 0.8 share a band with a probability of 0.9998
PRIME = (1 << 31) - 1


def measured_grade(attribute, value):
    """The grade (index into GRADES) of a measured value, as the measured captions word it."""
    return sum(value > limit for limit in LIMITS[attribute])


def text_figures(captions, reader):
    """Figures that need only the words.

    Args:
        captions: DataFrame with description (missing where a captioner gave up) and label.
        reader: CaptionReader.

    Returns:
        dict: captions, failed (share without a description); of the others words_median, words_p5, words_p95,
        mentions_* (a share for each attribute), label_contradictions, exact_repeats (share that equals an earlier one but
        for case and spaces), near_repeats (share that is nearly, not exactly, an earlier one).
    """
    described = captions[captions["description"].notna()]
    texts = list(described["description"])
    figures = {"captions": len(captions), "failed": 1 - len(texts) / max(1, len(captions))}
    if not texts:
        return figures
    low, median, high = np.percentile([len(text.split()) for text in texts], [5, 50, 95])
    mentioned = Counter(name for text in texts for name in reader.mentioned(text))
    pairs = zip(texts, described["label"])
    distinct = list(dict.fromkeys(" ".join(text.lower().split()) for text in texts))
    return {
        **figures,
        "words_median": float(median),
        "words_p5": float(low),
        "words_p95": float(high),
        **{f"mentions_{name}": mentioned[name] / len(texts) for name in reader.attributes},
        "label_contradictions": sum(reader.contradicts(text, label) for text, label in pairs) / len(texts),
        "exact_repeats": 1 - len(distinct) / len(texts),
        "near_repeats": near_repeats(distinct) / len(texts),
    }


def distinct_ngrams(texts, n):
    """Different word n-grams as a share of all: 1 where nothing is said twice; falls as texts are added."""
    grams = [gram for text in texts for gram in zip(*(text.lower().split()[i:] for i in range(n)))]
    return len(set(grams)) / len(grams) if grams else float("nan")


def near_repeats(texts):
    """How many of `texts` (different ones) are nearly an earlier one: a lower bound, close where repeats are few.

    MinHash over word triples, in bands: a text is compared with the first text of each band that it shares, so time
    and memory grow linearly (4 kB a text).
    """
    rng = np.random.default_rng(0)
    factors, shifts = rng.integers(1, PRIME, (HASHES, 1)), rng.integers(0, PRIME, (HASHES, 1))
    first, signatures, count = {}, [], 0
    for index, text in enumerate(texts):
        words = text.split()
        triples = {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
        hashes = np.array([zlib.crc32(triple.encode()) >> 1 for triple in triples], np.int64)
        signature = ((hashes * factors + shifts) % PRIME).min(axis=1).astype(np.uint32)
        signatures.append(signature)
        bands = [(i, signature[i : i + BAND].tobytes()) for i in range(0, HASHES, BAND)]
        earlier = {first.setdefault(band, index) for band in bands} - {index}
        count += any((signatures[other] == signature).mean() >= NEAR for other in earlier)
    return count


def measured_figures(captions, pictures, reader):
    """How the claimed attributes agree with the measured ones.

    Args:
        captions: DataFrame with image_id and description (none missing).
        pictures: iterable of dicts with id and image, of at least these images.

    Returns:
        (figures, confusion). figures, for asymmetry, border and colors: n_* (captions that claim something), spearman_*
        (rank correlation of the claimed grade with the measured value, or of the numbers of colours; None where either
        is constant), and colors_jaccard (mean overlap of the two sets of colours). confusion: DataFrame with
        attribute, claimed, measured (a grade's words, or "not mentioned") and captions.
    """
    texts = dict(zip(captions["image_id"], captions["description"]))
    rows = []
    for picture in pictures:
        if picture["id"] in texts:
            text, measured = texts[picture["id"]], measure_lesion(decode(picture["image"]))
            rows.append((measured, {name: reader.grade(text, name) for name in GRADES}, reader.colors_of(text)))
    figures, confusion = {}, []
    for name, words in GRADES.items():
        pairs = [(claims[name], getattr(measured, name)) for measured, claims, _ in rows]
        figures |= _rank_correlation(name, [pair for pair in pairs if pair[0] is not None])
        counts = Counter((claimed, measured_grade(name, value)) for claimed, value in pairs)
        for claimed in (0, 1, 2, None):
            said = "not mentioned" if claimed is None else words[claimed]
            confusion += [(name, said, words[grade], counts[claimed, grade]) for grade in range(3)]
    sets = [(colors, set(measured.colors)) for measured, _, colors in rows if colors]
    figures |= _rank_correlation("colors", [(len(said), len(seen)) for said, seen in sets])
    figures["colors_jaccard"] = float(np.mean([len(a & b) / len(a | b) for a, b in sets])) if sets else None
    return figures, pd.DataFrame(confusion, columns=["attribute", "claimed", "measured", "captions"])


def readable(figures):
    """The figures of `audit_captions` for people: list of (what, value as text)."""

    def share(key):
        return f"{figures[key]:.1%}"

    rows = [("captions", f"{figures['captions']:,}"), ("without a description", share("failed"))]
    if figures["failed"] == 1:
        return rows
    words = [f"{figures[key]:.0f}" for key in ("words_median", "words_p5", "words_p95")]
    rows.append(("length in words: median (5 to 95 %)", "{} ({} to {})".format(*words)))
    rows += [
        (f"mentions {key.removeprefix('mentions_')}", share(key)) for key in figures if key.startswith("mentions_")
    ]
    rows.append(("claims the other label", share("label_contradictions")))
    rows += [(name.replace("_", " "), share(name)) for name in ("exact_repeats", "near_repeats")]
    rows += [(f"distinct {n}-grams", share(f"distinct_{n}")) for n in (1, 2, 3)]
    for key, name in (("asymmetry", "asymmetry"), ("border", "border"), ("colors", "number of colors")):
        value = figures[f"spearman_{key}"]
        text = "undefined" if value is None else f"{value:.3f}"
        rows.append((f"{name}: Spearman's ρ with the measured", f"{text} (n = {figures[f'n_{key}']:,})"))
    overlap = figures["colors_jaccard"]
    return [*rows, ("overlap with the measured colors (Jaccard)", "undefined" if overlap is None else f"{overlap:.3f}")]


def _rank_correlation(name, pairs):
    frame = pd.DataFrame(pairs, columns=["claimed", "measured"])
    varied = len(frame) and (frame.nunique() > 1).all()
    ranks = frame.rank()
    correlation = float(ranks["claimed"].corr(ranks["measured"])) if varied else None
    return {f"n_{name}": len(frame), f"spearman_{name}": correlation}


def audit_captions(captions, shards, words, output, confusion, images, seed):
    """Audit the captions of a corpus, or of one captioner.

    Args:
        captions: paths of tables.CAPTIONS.
        shards: paths of tables.IMAGES: their pictures and labels.
        words: path of the words (dermaflux.caption_words).
        output: JSON to write: the figures of `text_figures` and `measured_figures`, with distinct_1 to distinct_3.
        confusion: CSV to write; see `measured_figures`.
        images: how many images, chosen by a hash of (seed, id), the sample has at most.
    """
    figures, table = audit_figures(captions, shards, CaptionReader(words), images, seed)
    write_csv(confusion, table)
    write_json(output, figures)


def audit_figures(captions, shards, reader, images, seed):
    """(figures, confusion) of `audit_captions`."""
    frame = read_frame(captions, ["image_id", "description"])
    frame = frame.merge(read_frame(shards, ["image_id", "label"]), on="image_id")
    described = frame[frame["description"].notna()]
    ranks = described["image_id"].map(lambda id: fraction("caption audit", seed, id)).astype(float)
    sample = described.loc[ranks.sort_values().index[:images]]
    pictures = chosen_rows(shards, set(sample["image_id"]), ["image"])
    agreement, confusion = measured_figures(sample, pictures, reader)
    ngrams = {f"distinct_{n}": distinct_ngrams(sample["description"], n) for n in (1, 2, 3)} if len(sample) else {}
    return {**text_figures(frame, reader), "sample": len(sample), **ngrams, **agreement}, confusion
