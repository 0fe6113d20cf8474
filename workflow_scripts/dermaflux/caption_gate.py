"""Before a server captions in bulk: the same images through transformers, one at a time, and many at once, compared."""

import asyncio
import difflib
from pathlib import Path

from dermaflux.caption_asking import vllm_client
from dermaflux.captions import Shard
from dermaflux.chat_client import Unavailable, image_message, work_through
from dermaflux.errors import UserError
from dermaflux.files import fraction, write_json
from dermaflux.job import say
from dermaflux.transformers_captioner import TransformersCaptioner
from dermaflux.vllm_server import VllmServer, vllm_version

EXAMPLES = 3  # of differing texts, in the error


def verify_captioner(images, output, settings, reference, prompt, seed, count, tolerance, model, revision, state, device, precision):  # fmt: skip
    """Compare a vLLM server's texts with those of transformers, and those of many requests at once with single ones.

    All are asked for free text at temperature 0: what enforces JSON differs between the two, and is no error of the model.

    Args:
        images: paths of shards (tables.IMAGES), of which `count` images are drawn by a hash of their ids.
        output: path of the verdict, JSON: {images, revision, vllm, tolerance, comparisons: {name: {identical,
            similarity}}}; identical and similarity are shares, 0 to 1.
        settings, reference: dicts (config.VllmCaptioner, config.TransformersCaptioner).
        prompt: str with {label}.
        tolerance: 1 - the least mean similarity.
        model: folder of the model; revision: its revision.
        state: folder for the server's log.
        device, precision: where transformers runs it.

    Raises:
        UserError: the texts differ by more than `tolerance`, or the server does not answer.
    """
    rows = _drawn(images, count)
    if not rows:
        raise UserError(f"{images[0]} and the shards beside it hold no images: nothing to verify the captioner with")
    sampling = {"temperature": 0.0, "seed": seed, "max_tokens": settings["max_tokens"]}
    # the server first: when it has ended, the GPU's memory is free again
    with VllmServer(model, settings, Path(state, "server.log")) as server:
        single = asyncio.run(_ask_server(server, rows, prompt, sampling, 1))
        at_once = asyncio.run(_ask_server(server, rows, prompt, sampling, settings["in_flight"]))
    captioner = TransformersCaptioner(model, device, precision)
    sampling["max_tokens"] = min(settings["max_tokens"], reference["max_tokens"])
    plain = [captioner.ask(row["image"]["bytes"], prompt.format(label=row["label"]), **sampling).text for row in rows]
    comparisons = {
        "one at a time against transformers": (single, plain),
        "many at once against one at a time": (at_once, single),
    }
    verdict = {
        "images": len(rows),
        "revision": revision,
        "vllm": vllm_version(settings["command"]),
        "tolerance": tolerance,
        "comparisons": {name: compare(*texts) for name, texts in comparisons.items()},
    }
    for name, found in verdict["comparisons"].items():
        say(f"{name}: {found['identical']:.0%} identical, mean similarity {found['similarity']:.3f}")
    for name, found in verdict["comparisons"].items():
        if found["similarity"] < 1 - tolerance:
            raise UserError(_differs(name, found, rows, comparisons[name], tolerance))
    write_json(output, verdict)


def _drawn(images, count):
    """`count` of the kept images of the shards, those whose ids have the smallest hashes: rows."""
    rows = []
    for path in images:
        rows = sorted([*rows, *Shard(path)], key=lambda row: fraction("gate", row["image_id"]))[:count]
    return rows


async def _ask_server(server, rows, prompt, sampling, in_flight):
    """The server's texts for `rows`, in their order."""
    texts = {}
    client = vllm_client(server, in_flight)

    async def ask(row):
        message = image_message(prompt.format(label=row["label"]), row["image"]["bytes"])
        reply = await client.ask(message, **sampling)
        if reply.refused:
            raise UserError(f"the server refuses to caption {row['image_id']}: {reply.refused}")
        texts[row["image_id"]] = reply.text

    try:
        async with client:
            await work_through(rows, ask, in_flight)
    except Unavailable as error:
        raise UserError(f"the server does not answer ({error}); its log is {server.log}") from None
    return [texts[row["image_id"]] for row in rows]


def similarity(one, other):
    """How alike two texts are, 0 to 1: twice the words in common, in order, over the words of both."""
    return difflib.SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()


def compare(ours, theirs):
    """Shares of identical texts and mean `similarity` of two lists of texts, pair by pair: dict, each 0 to 1."""
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "identical": sum(one == other for one, other in pairs) / len(pairs),
        "similarity": sum(similarity(one, other) for one, other in pairs) / len(pairs),
    }


def _differs(name, found, rows, texts, tolerance):
    """What is wrong and what to do."""
    worst = sorted(zip(rows, *texts, strict=True), key=lambda its: similarity(its[1], its[2]))[:EXAMPLES]
    examples = "\n".join(f"  {row['image_id']}:\n    {one[:200]!r}\n    {other[:200]!r}" for row, one, other in worst)
    advice = (
        "Batching changes what the server says: give `vllm serve` a smaller --max-num-seqs or --enforce-eager in "
        "`arguments`, or lower `in_flight`."
        if name.startswith("many")
        else "The server does not compute what the model is: try another vLLM version (`command`, envs/caption.yaml), "
        "--enforce-eager or another --dtype in `arguments`, or caption with the reference itself (backend transformers)."
    )
    return (
        f"the captioner is not fit for bulk work: {name}, texts are {found['similarity']:.3f} alike on average "
        f"({found['identical']:.0%} identical), and `caption.gate.tolerance: {tolerance}` wants {1 - tolerance:.3f}. {advice} "
        f"Should the differences be harmless, raise the tolerance. The pairs that differ most:\n{examples}"
    )
