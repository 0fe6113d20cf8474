"""Asking a model for the captions of a shard: what is asked, what is asked again, and how it is going."""

import asyncio
import hashlib
import os
import time
from collections import Counter
from dataclasses import dataclass

from dermaflux.caption_cache import reply_key
from dermaflux.caption_replies import BadReply, check_reply, response_format
from dermaflux.chat_client import ChatClient, Endpoint, Unavailable, image_message, work_through
from dermaflux.errors import UserError
from dermaflux.job import duration, say
from dermaflux.vllm_server import VllmServer, vllm_version


@dataclass(frozen=True)
class Question:
    """What is asked about every image of a shard.

    prompt: str with {label}; reply: the sentence after it that asks for JSON.
    attributes: tuple of names, which the JSON has beside description.
    temperature: of the first attempt; retry_temperature: the least of the later ones, each with a seed of its own.
    answers_by: dict that identifies who answers: model revision, server and its version.
    """

    prompt: str
    reply: str
    attributes: tuple
    seed: int
    attempts: int
    temperature: float
    retry_temperature: float
    max_tokens: int
    answers_by: dict

    def text(self, label):
        return f"{self.prompt.format(label=label)} {self.reply}".strip()

    def sampling(self, attempt):
        """The sampling settings of attempt 0, 1, ...: dict of temperature, seed, max_tokens."""
        temperature = self.temperature if attempt == 0 else max(self.temperature, self.retry_temperature)
        return {"temperature": temperature, "seed": self.seed + attempt, "max_tokens": self.max_tokens}

    def key(self, row, attempt):
        """The key under which the reply to this attempt is kept."""
        return reply_key(
            image=hashlib.sha256(row["image"]["bytes"]).hexdigest(),
            prompt=self.text(row["label"]),
            attributes=self.attributes,
            sampling=self.sampling(attempt),
            answers_by=self.answers_by,
        )

    def verdict(self, row, replies):
        """How far a row (image, label) has come, by the `replies` there are (a ReplyCache)."""
        reasons = []
        for attempt in range(self.attempts):
            reply = replies.get(self.key(row, attempt))
            if reply is None:
                return Verdict(None, attempt, reasons)
            try:
                return Verdict(check_reply(reply, row["label"], self.attributes), attempt, reasons)
            except BadReply as error:
                reasons.append(error)
                if error.kind == "rejected":  # the request itself was found wrong: so would the next be
                    break
        return Verdict(None, None, reasons)


@dataclass(frozen=True)
class Verdict:
    """texts: the usable reply's, or None. attempt: that reply's, or the one to be asked; None: the row is given up.
    reasons: the BadReply of each attempt before."""

    texts: dict | None
    attempt: int | None
    reasons: list

    @property
    def open(self):
        """Whether something is still to be asked."""
        return self.texts is None and self.attempt is not None


class Progress:
    """Says every `every` seconds how the shard is doing, and stops it when too many rows are bad.

    Args:
        what: the shard's name.
        total: number of rows; allowed: how many of them may stay without a caption.
        dollars: prices of a million prompt tokens and of a million reply tokens, or None.
        kept: where the replies are, for the error.
    """

    def __init__(self, what, total, allowed, dollars=None, kept="", every=10.0):
        self.what, self.total, self.allowed, self.dollars, self.every = what, total, allowed, dollars, every
        self.kept = f" in {kept}" if kept else ""
        self.done, self.tokens = 0, [0, 0]  # tokens of prompts, of replies
        self.bad, self.unusable = {}, Counter()  # image_id -> error; kind of unusable reply -> how many
        self.begin()

    def begin(self):
        """Rates count from here: what is done already was done by an earlier run."""
        self.resumed, self.start = self.done, time.monotonic()
        self.said = self.start
        if self.done:
            say(f"{self.what}: {self.done:,} of {self.total:,} images were answered by an earlier run")

    def reply(self, reply):
        """A reply came in."""
        self.tokens[0] += reply.prompt_tokens
        self.tokens[1] += reply.completion_tokens

    def row(self, row, verdict):
        """A row is finished, with or without a caption. Returns the verdict.

        Raises:
            UserError: more rows than allowed have no caption.
        """
        self.done += 1
        self.unusable.update(reason.kind for reason in verdict.reasons)
        if verdict.texts is None:
            self.bad[row["image_id"]] = str(verdict.reasons[-1])
            self._check()
        now = time.monotonic()
        if now - self.said >= self.every and self.done < self.total:
            self.said = now
            say(f"{self.what}: {self.state()}")
        return verdict

    def state(self):
        """How it is going, in words."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        new = self.done - self.resumed
        parts = [f"{self.done:,} of {self.total:,} images, {new / seconds:.3g}/s"]
        parts += [f"{self.tokens[1] / seconds:,.0f} tokens/s"] if self.tokens[1] else []
        parts += (
            [f"{duration((self.total - self.done) * seconds / new)} left"] if new and self.done < self.total else []
        )
        parts += [f"{count} {kind}" for kind, count in self.unusable.most_common()]
        parts += [f"{len(self.bad)} without a caption"] if self.bad else []
        if self.dollars:
            cost = sum(tokens * price / 1e6 for tokens, price in zip(self.tokens, self.dollars, strict=True))
            parts += [f"${cost:.2f}"]
        return ", ".join(parts)

    def _check(self):
        if len(self.bad) <= self.allowed:
            return
        examples = "\n".join(f"  {image}: {error}" for image, error in list(self.bad.items())[:5])
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.unusable.most_common())
        raise UserError(
            f"{self.what}: {len(self.bad)} of {self.total:,} images got no usable caption, and `caption.bad_share` allows "
            f"{self.allowed}. What came instead: {kinds}. Examples:\n{examples}\n"
            "Change the prompt, `max_tokens`, `attempts` or the captioner, or raise `caption.bad_share`. What was answered "
            f"is kept{self.kept}, and is not asked again."
        )


def ask_endpoint(rows, question, replies, settings, progress):
    """Ask an OpenAI-compatible endpoint about `rows` (iterable), until each has a usable reply or is given up.

    Args:
        question: a Question; replies: a ReplyCache, which receives every reply.
        settings: dict (config.OpenAICaptioner).
        progress: a Progress.
    """
    client = ChatClient(
        Endpoint(
            settings["url"].rstrip("/"),
            settings["served_model"],
            endpoint_key(settings),
            f"the key in {settings['key']}",
        ),
        settings["in_flight"],
        settings["reply_timeout"],
        settings["requests_per_minute"],
    )

    def fields(sampling):
        """The request fields of this endpoint: some take no seed, some call the length by another name."""
        own = {"temperature": sampling["temperature"], settings["length_field"]: sampling["max_tokens"]}
        return own | ({"seed": sampling["seed"]} if settings["takes_seed"] else {})

    asyncio.run(_ask_all(rows, question, replies, client, progress, fields))


def endpoint_key(settings):
    """The key of an endpoint (dict, config.OpenAICaptioner) from the environment, or None where it needs none.

    Raises:
        UserError: the variable is not set.
    """
    if settings["key"] is None:
        return None
    if not os.environ.get(settings["key"]):
        raise UserError(f"{settings['url']} needs a key: set the environment variable {settings['key']}")
    return os.environ[settings["key"]]


def ask_vllm(rows, question, replies, settings, progress, model, log):
    """Ask a vLLM server of our own about `rows`; see `ask_endpoint`. The server is restarted after a crash or hang.

    Args:
        settings: dict (config.VllmCaptioner).
        model: folder of the model; log: path of the server's log.
    """
    with VllmServer(model, settings, log) as server:
        ask_server(rows, question, replies, server, settings["in_flight"], progress)


def ask_server(rows, question, replies, server, in_flight, progress):
    """Ask a running VllmServer about `rows`, `in_flight` at once; see `ask_endpoint`."""
    asyncio.run(_ask_all(rows, question, replies, vllm_client(server, in_flight), progress))


def vllm_client(server, in_flight):
    """A ChatClient of `server` (a VllmServer) that has it restarted when it fails, and follows it to its new address."""

    async def recover(began):
        await asyncio.to_thread(server.recover, began, client.last_answer)
        client.endpoint = server.endpoint

    client = ChatClient(server.endpoint, in_flight, server.settings["reply_timeout"], recover=recover)
    return client


async def _ask_all(rows, question, replies, client, progress, fields=dict):
    form = response_format(question.attributes)

    async def finish(row):
        verdict = question.verdict(row, replies)
        while verdict.open:
            messages = image_message(question.text(row["label"]), row["image"]["bytes"])
            sampling = fields(question.sampling(verdict.attempt))
            try:
                reply = await client.ask(messages, **sampling, response_format=form)
            except Unavailable as error:
                return progress.row(row, Verdict(None, None, [*verdict.reasons, BadReply("unanswered", str(error))]))
            replies.put(question.key(row, verdict.attempt), reply)
            progress.reply(reply)
            verdict = question.verdict(row, replies)
        return progress.row(row, verdict)

    async with client:
        await work_through(rows, finish, client.in_flight)


def ask_in_process(rows, question, replies, captioner, progress):
    """Ask `captioner` (a TransformersCaptioner) about `rows`, one at a time; see `ask_endpoint`."""
    for row in rows:
        while (verdict := question.verdict(row, replies)).open:
            reply = captioner.ask(
                row["image"]["bytes"], question.text(row["label"]), **question.sampling(verdict.attempt)
            )
            replies.put(question.key(row, verdict.attempt), reply)
            progress.reply(reply)
        progress.row(row, verdict)


def who_answers(settings, revision):
    """What identifies who answers, beyond the question: a dict for Question.answers_by.

    Args:
        settings: dict (config.VllmCaptioner, OpenAICaptioner or TransformersCaptioner); revision: of its model, or None.
    """
    if settings["backend"] == "vllm":
        return {"revision": revision, "vllm": vllm_version(settings["command"]), "arguments": settings["arguments"]}
    if settings["backend"] == "openai":
        return {"url": settings["url"], "model": settings["served_model"]}
    from transformers import __version__

    return {"revision": revision, "transformers": __version__}
