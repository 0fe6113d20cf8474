"""Asking an OpenAI-compatible endpoint about images: many requests in flight, patience with its troubles, none with ours."""

import asyncio
import base64
import json
import time
from dataclasses import dataclass, field

from dermaflux.caption_replies import Reply
from dermaflux.errors import UserError

TRIES = 8  # per request, while the endpoint is unreachable, overloaded or broken
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # s between tries: doubled from the first up to the longest
LONGEST_RETRY_AFTER = 600.0  # s; an endpoint that asks for more is waited for that long


@dataclass(frozen=True)
class Endpoint:
    """Where requests go. `key_name`: where the key comes from, for messages, which never show the key itself."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    key_name: str = "the key"


class Unavailable(Exception):
    """No answer after TRIES tries: the endpoint does not work, or not with this request. Another run asks again."""


def image_message(prompt, jpeg):
    """The messages of a request: one image (JPEG bytes, sent inline) and the prompt."""
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
    return [{"role": "user", "content": content}]


class ChatClient:
    """Asynchronous context manager around one HTTP session. `endpoint` (an Endpoint) may be replaced at any time.

    Args:
        in_flight: connections at most.
        reply_timeout: s that one request may take.
        requests_per_minute: limit of our own, evenly spaced; None: none.
        recover: async function that is awaited after each failed try, with the time (time.monotonic) when that try
            began; it may repair the endpoint, and raises UserError where that is hopeless.
    """

    def __init__(self, endpoint, in_flight, reply_timeout, requests_per_minute=None, recover=None):
        self.endpoint, self.in_flight, self.reply_timeout = endpoint, in_flight, reply_timeout
        self.interval = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self.recover, self._next_slot = recover, 0.0
        self.last_answer = time.monotonic()  # when a reply last came
        self.requests = self.prompt_tokens = self.completion_tokens = 0

    async def __aenter__(self):
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.in_flight),
            timeout=aiohttp.ClientTimeout(total=self.reply_timeout),
            trust_env=not self.endpoint.url.startswith("http://127.0.0.1"),  # proxies, but not on loopback
        )
        return self

    async def __aexit__(self, *error):
        await self._session.close()

    async def ask(self, messages, **fields):
        """The Reply to `messages` with further request fields (temperature, max_tokens, seed, response_format ...).

        A request that the endpoint calls wrong (400, 413, 422) is a Reply with `refused`: asking again would not help.

        Raises:
            Unavailable: no answer after TRIES tries.
            UserError: the endpoint does not accept the key, or does not know the model or address.
        """
        delay, trouble = FIRST_DELAY, ""
        for attempt in range(TRIES):
            await self._slot()
            began, wait = time.monotonic(), 0.0
            self.requests += 1
            try:
                status, headers, body = await self._post({"model": self.endpoint.model, "messages": messages, **fields})
            except (OSError, TimeoutError) as error:  # aiohttp's connection errors are OSErrors
                trouble = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            else:
                reply = self._reply(status, body)
                if isinstance(reply, Reply):
                    self.last_answer = time.monotonic()
                    return reply
                trouble, wait = reply, _retry_after(headers)
            if attempt + 1 < TRIES:
                if self.recover:
                    await self.recover(began)
                await asyncio.sleep(max(delay, wait))
                delay = min(2 * delay, LONGEST_DELAY)
        raise Unavailable(f"no answer after {TRIES} tries; the last: {trouble}")

    async def _slot(self):
        """Wait for this request's turn under the limit of requests per minute."""
        now = time.monotonic()
        slot = max(now, self._next_slot)
        self._next_slot = slot + self.interval
        if slot > now:
            await asyncio.sleep(slot - now)

    async def _post(self, payload):
        import aiohttp

        headers = {"Authorization": f"Bearer {self.endpoint.key}"} if self.endpoint.key else {}
        try:
            # no redirects: key and images go where the configuration says, and nowhere else
            async with self._session.post(
                f"{self.endpoint.url}/chat/completions", json=payload, headers=headers, allow_redirects=False
            ) as response:
                return response.status, response.headers, await response.read()
        except aiohttp.ClientError as error:
            raise OSError(f"{type(error).__name__}: {self._hidden(str(error))}") from None

    def _reply(self, status, body):
        """The Reply in an answer, or (str) the trouble that may pass."""
        where = f"{self.endpoint.url} (model {self.endpoint.model!r})"
        if status == 200:
            try:
                return self._count(json.loads(body))
            except (ValueError, KeyError, IndexError, TypeError) as error:
                return f"an answer that is no chat completion ({type(error).__name__})"
        said = self._hidden(_message(body))
        if status in (401, 403):
            raise UserError(
                f"{where} does not accept {self.endpoint.key_name} (HTTP {status}: {said}): set a valid one"
            )
        if 300 <= status < 400 or status in (404, 405):
            raise UserError(
                f"{where} has no chat completions (HTTP {status}: {said}): check the URL and the model's name"
            )
        if status in (408, 409, 425, 429) or status >= 500:
            return f"HTTP {status}: {said}"
        return Reply(refused=f"HTTP {status}: {said}")

    def _count(self, answer):
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        prompt, completion = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        message = choice["message"]
        text = message.get("content") or message.get("refusal") or ""
        return Reply(text, choice.get("finish_reason") or "stop", prompt, completion)

    def _hidden(self, text):
        return text.replace(self.endpoint.key, "(key)") if self.endpoint.key else text


def _message(body, length=300):
    """What an error's body says."""
    try:
        value = json.loads(body)
        said = value.get("error", value)
        said = said.get("message", said) if isinstance(said, dict) else said
    except (ValueError, AttributeError):
        said = body.decode("utf-8", "replace")
    return " ".join(str(said).split())[:length]


def _retry_after(headers):
    """Seconds that the endpoint asks us to wait (0.0 where it does not, or names a date)."""
    try:
        return min(max(float(headers.get("Retry-After", 0)), 0.0), LONGEST_RETRY_AFTER)
    except ValueError:
        return 0.0


async def work_through(items, work, in_flight):
    """Await `work(item)` for each of `items`, `in_flight` at once; the first error ends all.

    Items are taken one by one as workers become free, so that never more than `in_flight` are in memory.
    """
    waiting = iter(items)

    async def worker():
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(worker())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
