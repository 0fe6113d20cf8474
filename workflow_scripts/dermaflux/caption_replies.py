"""What a model is asked to reply, and whether a reply can be believed: JSON with one text for each attribute."""

import json
import re
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
from pydantic import ConfigDict, ValidationError, create_model

DESCRIPTION = "description"

_REFUSALS = re.compile(
    r"\b(i'?m sorry|i am sorry|i apologi[sz]e|i (can ?not|can't|won't|am unable|'?m unable|am not able|'?m not able)|as an ai\b|"
    r"not able to (assist|help|provide)|unable to (assist|help|provide|diagnose|analy[sz]e)|"
    r"consult (a|your) (doctor|dermatologist|physician))",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[.,;:!?()]|\b(?:but|however|although|though)\b")
_SAYS = {
    "benign": {"benign", "harmless", "noncancerous", "nonmalignant"},
    "malignant": {"malignant", "malignancy", "malignancies", "cancerous", "cancer"},
}
_NEGATIONS = {"no", "not", "non", "never", "without", "neither", "nor", "unlikely", "lacks", "lacking", "absence", "free", "than"}  # fmt: skip
_NEUTRAL = {"exclude", "rule", "ruling", "excluding", "whether", "pre"}  # "to rule out malignancy" says neither
_SCOPE = 4  # words before a mention that may negate it


@dataclass(frozen=True)
class Reply:
    """What came back for one request.

    finish: why the text ended, in OpenAI's words (stop | length | content_filter).
    refused: the endpoint's reason not to answer this request at all (an unreadable image, say), or None.
    """

    text: str = ""
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refused: str | None = None

    def as_dict(self):
        return asdict(self)


class BadReply(Exception):
    """A reply that must not become a caption.

    kind: empty | truncated | refusal | malformed | repetitive | contradiction; rejected: the endpoint found the request
    wrong; unanswered: it did not answer; missing: there is no such caption.
    """

    def __init__(self, kind, detail):
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


def reply_schema(attributes):
    """The JSON schema of a reply: an object with a string for each of `attributes` and for the description.

    The strings have no maxLength: with a bound, xgrammar (vLLM's) lets control characters into them. `max_tokens` bounds.
    """
    names = [*attributes, DESCRIPTION]
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": names,
        "additionalProperties": False,
    }


def response_format(attributes):
    """The field `response_format` of a request, in the form that OpenAI and all versions of vLLM know."""
    schema = {"name": "caption", "strict": True, "schema": reply_schema(attributes)}
    return {"type": "json_schema", "json_schema": schema}


@cache
def _model(attributes):
    fields = dict.fromkeys([*attributes, DESCRIPTION], (str, ...))
    return create_model("CaptionReply", __config__=ConfigDict(strict=True, extra="ignore"), **fields)


def check_reply(reply, label, attributes):
    """The texts in `reply`: dict with each of `attributes` and description, white space made single.

    Args:
        reply: a Reply.
        label: benign | malignant, which the prompt named and the reply must not deny.
        attributes: tuple of names.

    Raises:
        BadReply: the reply cannot be used; its kind and message say why.
    """
    if reply.refused:
        raise BadReply("rejected", reply.refused)
    if not reply.text.strip():
        raise BadReply("empty", "no text" if reply.finish != "content_filter" else "held back by a content filter")
    if _is_stuck(reply.text):
        raise BadReply("repetitive", _shown(reply.text))
    if reply.finish == "length":
        raise BadReply("truncated", f"cut off after {reply.completion_tokens} tokens: {_shown(reply.text[-120:])}")
    texts = _parse(reply.text, attributes)
    for name, text in texts.items():
        if not text:
            raise BadReply("empty", f"no {name}")
        if _REFUSALS.search(text):
            raise BadReply("refusal", _shown(text))
        if _is_repetitive(text):
            raise BadReply("repetitive", f"{name}: {_shown(text)}")
        if contradicts(text, label):
            raise BadReply("contradiction", f"the label is {label}, {name} says: {_shown(text)}")
    return texts


def _parse(text, attributes):
    start, end = text.find("{"), text.rfind("}")  # models without enforced JSON wrap it in words or a code fence
    if (start < 0 or end < start) and _REFUSALS.search(text):
        raise BadReply("refusal", _shown(text))
    try:
        values = _model(tuple(attributes)).model_validate(json.loads(text[start : end + 1], strict=False))
    except json.JSONDecodeError:
        raise BadReply("malformed", f"not JSON: {_shown(text)}") from None
    except ValidationError as error:
        wrong = ", ".join(f"{'.'.join(map(str, e['loc'])) or 'reply'}: {e['msg']}" for e in error.errors()[:3])
        raise BadReply("malformed", wrong) from None
    return {name: " ".join(value.split()) for name, value in values.model_dump().items()}


def _is_stuck(text, longest=41, times=8):
    """Whether the same piece of at most `longest` characters comes `times` times on end."""
    codes = np.frombuffer(" ".join(text.split()).encode("utf-32-le", "surrogatepass"), np.uint32)
    return any(b"\1" * (times - 1) * n in (codes[n:] == codes[:-n]).tobytes() for n in range(1, longest + 1))


def _is_repetitive(text):
    """Whether a text of 20 words or more consists for the most part of word triples that it has said before."""
    words = text.lower().split()
    triples = list(zip(words, words[1:], words[2:]))
    return len(words) >= 20 and len(set(triples)) < 0.5 * len(triples)


def contradicts(text, label):
    """Whether `text` says the opposite of `label` (benign | malignant): claims the other, or denies this one. English."""
    other = "malignant" if label == "benign" else "benign"
    for clause in _CLAUSE.split(text.lower()):
        words = re.findall(r"[a-z]+", clause.replace("n't", " not"))
        for i, word in enumerate(words):
            before = set(words[max(0, i - _SCOPE) : i])
            if before & _NEUTRAL:
                continue
            if word in _SAYS[label if before & _NEGATIONS else other]:
                return True
    return False


def _shown(text, length=160):
    text = " ".join(text.split())
    return repr(text if len(text) <= length else text[:length] + "...")
