"""Captions: from an image and its label to the text that the generator trains on."""

import hashlib
import io
import itertools
import math
from pathlib import Path

import pyarrow.parquet as pq

from dermaflux.caption_asking import Progress, Question, Verdict, ask_endpoint, ask_in_process, ask_vllm, who_answers
from dermaflux.caption_cache import ReplyCache
from dermaflux.caption_replies import BadReply
from dermaflux.imported_captions import ImportedCaptions, text_of
from dermaflux.job import say
from dermaflux.tables import captions_schema, table_writer
from dermaflux.transformers_captioner import TransformersCaptioner

IMAGES_AT_ONCE = 32  # read from a shard at once
ROWS_AT_ONCE = 1024  # written at once

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


class Shard:
    """The kept images of a shard (path, tables.IMAGES), read a few at a time: rows with image_id, image and label."""

    def __init__(self, path):
        self.path = path
        reasons = pq.read_table(path, columns=["drop_reason"], partitioning=None)["drop_reason"]
        self.count = reasons.null_count

    def __len__(self):
        return self.count

    def __iter__(self):
        columns = ["image_id", "image", "label", "drop_reason"]
        with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(IMAGES_AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    if row.pop("drop_reason") is None:
                        yield row


def caption_shard(
    images, output, captioner, settings, revision, what, *, prompt, reply, template, attributes, seed, retry_temperature,
    bad_share, state, model=None, device="cpu", precision="fp32",
):  # fmt: skip
    """Caption every kept image of a shard.

    Replies of models are kept in `state` as they come in, so that a killed job asks for none of them again.

    Args:
        images: path of a shard (tables.IMAGES).
        output: path of the captions (tables.captions_schema), one row for each kept image; one that got no usable
            caption has an error instead.
        captioner: name of the captioner, which goes into the table.
        settings: dict of the captioner's settings (config.Captioner), of which `backend` chooses how.
        revision: of the captioner's model; None where it runs elsewhere or there is none.
        what: the shard's name, for progress.
        prompt, template: str with {label}; the template also with {description}.
        reply: the sentence that follows the prompt and asks for JSON; only models get it.
        attributes: names of what is described.
        retry_temperature: the least of a request that repeats another.
        bad_share: share of the images (rounded up) that may get no caption.
        state: folder for the replies and the server's log.
        model: folder of the model; device (cuda | cpu) and precision (bf16 | fp32): where `transformers` runs it.

    Raises:
        UserError: more images got no caption than may; no key, server, model or file. The message says what to do.
    """
    shard, state, attributes = Shard(images), Path(state), tuple(attributes)
    prices = settings.get("dollars_per_million_tokens")
    counts = Progress(what, len(shard), math.ceil(bad_share * len(shard)), prices, kept=state)
    facts = {"captioner": captioner, "revision": revision or settings.get("served_model")}

    def table_row(row, text, verdict):
        texts, caption = verdict.texts or {}, None
        if texts:
            caption = texts.get("caption") or template.format(label=row["label"], description=texts["description"])
        return {
            **{name: texts.get(name) for name in (*attributes, "description")},
            **facts,
            "image_id": row["image_id"],
            "caption": caption,
            "prompt_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "seed": seed + (verdict.attempt or 0),
            "n_tokens": len(caption.split()) if caption else None,
            "error": None if caption else counts.bad[row["image_id"]],
        }

    if settings["backend"] in LOCAL:
        verdict_of = LOCAL[settings["backend"]](settings)
        verdicts = ((row, counts.row(row, verdict_of(row))) for row in shard)
        rows = (table_row(row, prompt.format(label=row["label"]), verdict) for row, verdict in verdicts)
        _write(output, rows, attributes)
    else:
        question = Question(
            prompt, reply, attributes, seed, settings["attempts"], settings["temperature"], retry_temperature,
            settings["max_tokens"], who_answers(settings, revision),
        )  # fmt: skip
        with ReplyCache(state / "replies.jsonl") as replies:
            _ask(shard, question, replies, settings, counts, state, model, device, precision)
            rows = (table_row(row, question.text(row["label"]), question.verdict(row, replies)) for row in shard)
            _write(output, rows, attributes)
    say(f"{what}: {counts.state()}")


def _ask(shard, question, replies, settings, counts, state, model, device, precision):
    """Have `replies` (a ReplyCache) complete: ask for what no earlier run has asked."""
    waiting = set()
    for row in shard:
        verdict = question.verdict(row, replies)
        if verdict.open:
            waiting.add(row["image_id"])
        else:
            counts.row(row, verdict)
    if not waiting:
        return
    counts.begin()
    rows = (row for row in shard if row["image_id"] in waiting)
    if settings["backend"] == "vllm":
        ask_vllm(rows, question, replies, settings, counts, model, state / "server.log")
    elif settings["backend"] == "openai":
        ask_endpoint(rows, question, replies, settings, counts)
    else:
        ask_in_process(rows, question, replies, TransformersCaptioner(model, device, precision), counts)


def _measured(settings):
    """Verdicts by the pixels."""
    import numpy as np
    from PIL import Image

    from dermaflux.measure import measure_lesion

    def verdict(row):
        rgb = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))
        return Verdict(describe(measure_lesion(rgb)), 0, [])

    return verdict


def _imported(settings):
    """Verdicts by what the imported file says."""
    captions = ImportedCaptions(settings["file"], settings["sha256"])

    def verdict(row):
        texts = captions.find(row["image_id"])
        if texts is None:
            return Verdict(None, None, [BadReply("missing", f"{settings['file']} has no caption for it")])
        return Verdict(texts | {"description": text_of(texts)}, 0, [])

    return verdict


LOCAL = {"measured": _measured, "imported": _imported}  # these need no model


def _write(output, rows, attributes):
    """Write `rows` (iterable of dicts) as a table of captions, a few at a time."""
    rows = iter(rows)
    with table_writer(output, captions_schema(attributes)) as write:
        while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
            write(some)
