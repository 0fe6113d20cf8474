"""What a caption claims, read from its words: asymmetry and border as grades, colours, and a label.

Words stand in a YAML file (config/caption_words.yaml says how), so another language is another file. The reader is a
plain one: it looks for phrases sentence by sentence and, before each, for a negation or a "slightly".
"""

import re
from typing import Literal

from pydantic import field_validator

from dermaflux.closed import Closed, load
from dermaflux.measure import COLORS

REACH = 8  # words; a negation further away than this does not count


class Attribute(Closed):
    nouns: list[str]
    absent: list[str]
    present: list[str]


class Words(Closed):
    """The words of one language."""

    negations: list[str]
    denials: list[str]
    mild: list[str]
    topics: list[str]
    ends: list[str]
    hedges: list[str]
    attributes: dict[str, Attribute]
    other_nouns: list[str]
    colors: dict[str, list[str]]
    labels: dict[Literal["benign", "malignant"], list[str]]

    @field_validator("attributes")
    @classmethod
    def _the_measured_ones_are_there(cls, attributes):
        missing = {"asymmetry", "border", "color"} - set(attributes)
        if missing:
            raise ValueError(f"lacks {', '.join(sorted(missing))}")
        return attributes

    @field_validator("colors")
    @classmethod
    def _colors_are_the_measured_ones(cls, colors):
        if set(colors) != set(COLORS):
            raise ValueError(f"must name exactly the measured colours: {', '.join(COLORS)}")
        return colors


class _Phrases:
    """Phrases and what each means; of those that overlap in a text the longest is found."""

    def __init__(self, meanings):
        self.meanings = {}
        for meaning, phrases in meanings.items():
            for phrase in phrases:
                self.meanings.setdefault(tuple(_tokens(phrase)), []).append(meaning)
        self.longest = max(map(len, self.meanings), default=0)

    def find(self, words):
        """List of (start, stop, list of meanings)."""
        found, start = [], 0
        while start < len(words):
            sizes = range(min(self.longest, len(words) - start), 0, -1)
            size = next((n for n in sizes if tuple(words[start : start + n]) in self.meanings), 0)
            if size:
                found.append((start, start + size, self.meanings[tuple(words[start : start + size])]))
            start += size or 1
        return found


def _tokens(text):
    """Words in lower case, and commas; a hyphen separates words."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*|,", text.lower().replace("’", "'"))


def _sentences(text):
    """Lists of tokens. A heading such as "Border irregularity:" claims nothing and is left out."""
    parts = re.findall(r"([^.;:!?\n]+)([.;:!?\n]?)", text)
    found = [(_tokens(words), end) for words, end in parts]
    return [words for words, end in found if words and not (end == ":" and len(words) <= 3)]


class CaptionReader:
    """Reads captions by the words of the YAML file `path`."""

    def __init__(self, path):
        words = load(Words, path)
        self.attributes = words.attributes
        self.graded = {
            name: _Phrases({0: its.absent, 2: its.present})
            for name, its in words.attributes.items()
            if its.absent or its.present
        }
        nouns = {name: its.nouns for name, its in words.attributes.items()}
        self.nouns = _Phrases({**nouns, None: words.other_nouns})
        self.colors, self.labels = _Phrases(words.colors), _Phrases(words.labels)
        single = ("negations", "denials", "mild", "topics", "ends", "hedges")
        self.cues = {name: _Phrases({True: getattr(words, name)}) for name in single}

    def grade(self, text, attribute):
        """0 (absent), 1 (slight), 2 (present) or None (no claim): the strongest claim counts."""
        grades = []
        for words in _sentences(text):
            for start, stop, (meaning, *_) in self.graded[attribute].find(words):
                scope = self._scope(words, start)
                if self._belongs(words, start, stop, attribute) and not self._has("topics", scope):
                    mild = self._has("mild", _after_comma(scope))
                    grades.append(1 if mild else 2 - meaning if self._denied(words, scope, stop) else meaning)
        return max(grades, default=None)

    def colors_of(self, text):
        """Names of measure.COLORS that the text gives the lesion, as a set."""
        claimed = set()
        for words in _sentences(text):
            for start, stop, names in self.colors.find(words):
                if not self._denied(words, self._scope(words, start), stop):
                    claimed |= set(names)
        return claimed

    def mentioned(self, text):
        """Names of the attributes that the text says anything about, as a set."""
        sentences = _sentences(text)
        found = {name for words in sentences for _, _, names in self.nouns.find(words) for name in names} - {None}
        found |= {name for name in self.graded if self.grade(text, name) is not None}
        return found | ({"color"} if any(self.colors.find(words) for words in sentences) else set())

    def contradicts(self, description, label):
        """Whether the text claims the other label than `label`, or denies this one. "May be malignant" is no claim."""
        for words in _sentences(description):
            for start, stop, (claimed, *_) in self.labels.find(words):
                scope = self._scope(words, start)
                denied = self._denied(words, scope, stop)
                if not self._has("hedges", scope) and (claimed != label) != denied:
                    return True
        return False

    def _has(self, cue, words):
        return bool(self.cues[cue].find(words))

    def _scope(self, words, start):
        """The words before `start` that can modify what stands there."""
        before = words[:start]
        ends = [stop for _, stop, _ in self.cues["ends"].find(before)]
        return before[max([0, start - REACH, *ends]) :]

    def _denied(self, words, scope, stop):
        after = self.cues["denials"].find(words[stop : stop + 3])
        return self._has("negations", scope) or any(begin == 0 for begin, _, _ in after)

    def _belongs(self, words, start, stop, attribute):
        """Whether the nearest noun is one of the attribute's (of two as near, the one after the word)."""
        if not self.attributes[attribute].nouns:
            return True
        distances = [
            (begin - stop if begin >= stop else start - end + 0.5, names)
            for begin, end, names in self.nouns.find(words)
        ]
        return bool(distances) and attribute in min(distances, key=lambda item: item[0])[1]


def _after_comma(words):
    """The words after the last comma."""
    return words[len(words) - words[::-1].index(",") :] if "," in words else words
