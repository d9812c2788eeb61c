"""Tokenize pieces of text, each once, with the same result as for the whole text.

**Text is text.** The tokenizer's JSON is rebuilt with its control tokens (those that are special, and added ones that
its chat template writes) under names that no text can hold. ``<|im_end|>`` in a question then becomes the characters
that it is written with, whatever the tokenizer; where control tokens belong is decided by the template alone.

**A piece is what repeats**: a question, or the reasoning with the answer. A box is another in every row, so text is cut
around its six numbers, and the numbers are pieces too. Tokens of a piece depend on the characters next to it (a space
joins the word that follows, a first word may get a mark), so each is tokenized between a few characters that represent
its neighbours, and kept if tokens part exactly where it was cut; else the whole text is taken in one. So the tokens are
those that the tokenizer gives for the whole text; the tests hold this for the usual kinds of tokenizer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from reasonknee_datasets.transforms.base import TransformError
from reasonknee_datasets.transforms.tokenizer import NamedTokenizer, TokenizerContent, import_tokenizers

CACHED_TOKENS = 1 << 21
"""How many tokens of pieces a process keeps for one tokenizer: some 30 MB with their texts. The oldest go first."""

# Noncharacters of Unicode, which occur in no interchanged text.
_HIDDEN = "\ufdd0{}\ufdd1"
_ANCHOR = "\ufdd0anchor\ufdd1"


class TextSpan(NamedTuple):
    """A range of characters, to find its tokens."""

    kind: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class EncodedPiece:
    """The tokens of a piece, and for each mark the first token and one past the last."""

    ids: list[int]
    marks: tuple[TextSpan, ...]


class TokenCacheInfo(NamedTuple):
    """Texts that a process has tokenized so far with one tokenizer."""

    encoded: int
    pieces: int
    tokens: int
    evicted: int


class TextEncoder:
    """A tokenizer that reads control tokens in text as text, with a bounded memory of pieces.

    `content`: content of the tokenizer.
    """

    def __init__(self, content: TokenizerContent) -> None:
        state = json.loads(content.json)
        self.control = _control_tokens(content, state)
        self._tokenizer, self.prefix = _rebuild(state, set(self.control))
        for token in self.control:
            found = self._tokenizer.token_to_id(self._hidden(token))
            if found is not None:
                self.control[token] = found
        added = {token["content"]: token for token in state["added_tokens"]}
        self._split = _splitter([token for token, number in self.control.items() if number >= 0], added)
        self._pieces: dict[Hashable, EncodedPiece | None] = {}
        self._numbers: dict[int, int] = {}
        self._layouts: dict[Hashable, int] = {}
        self._encoded = self._tokens = self._evicted = 0

    @staticmethod
    def _hidden(token: str) -> str:
        return _HIDDEN.format(token.encode().hex())

    def token_id(self, token: str | None) -> int | None:
        """Return the number of a token of any kind, or None."""
        if token is None or self.control.get(token, -1) >= 0:
            return None if token is None else self.control[token]
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def control_id(self, token: str) -> int:
        """Return the number of a control token.

        Raises TransformError if the tokenizer has no such token, or has it as an ordinary word.
        """
        number = self.control.get(token, -1)
        if number < 0:
            raise TransformError(
                f"{token!r} is not a special token of the tokenizer. Add it before: "
                f"tokenizer.add_special_tokens({{'additional_special_tokens': [{token!r}]}})."
            )
        return number

    def split(self, text: str) -> list[str]:
        """Split a template's text into plain text and control tokens, in turn; every second one is a control token."""
        return self._split.split(text) if self._split is not None else [text]

    def number(self, part: Hashable) -> int:
        """Return the number under which the pieces of a part of a layout are kept: for the same part the same."""
        return self._layouts.setdefault(part, len(self._layouts))

    def get(self, key: Hashable) -> EncodedPiece | None:
        """Return a kept piece; None where it was not kept, or where its edges did not part cleanly."""
        return self._pieces.get(key)

    def keep(self, key: Hashable, make: Callable[[], EncodedPiece | None]) -> EncodedPiece | None:
        """Return a piece, made the first time.

        Threads that make one at the same time keep the first. No lock is held: a worker that is forked meanwhile would
        wait for it for ever.
        """
        if key in self._pieces:
            return self._pieces[key]
        made = make()
        piece = self._pieces.setdefault(key, made)
        if piece is made and made is not None:
            self._tokens += len(made.ids)
        while self._tokens > CACHED_TOKENS and len(self._pieces) > 1:
            try:
                oldest = self._pieces.pop(next(iter(self._pieces)))
            except (KeyError, RuntimeError):  # another thread was faster
                continue
            self._tokens -= 0 if oldest is None else len(oldest.ids)
            self._evicted += 1
        return piece

    def encode(
        self, text: str, marks: Sequence[TextSpan] = (), *, left: str = "", right: str = "", inside: bool
    ) -> EncodedPiece | None:
        """Tokenize a text between its neighbours.

        Parameters
        ----------
        marks : sequence of TextSpan
            Stretches of its characters.
        left, right : str
            A few characters next to it, or nothing.
        inside : bool
            Whether anything comes before it, a control token for example.

        Returns
        -------
        EncodedPiece or None
            None where a token reaches over an edge.
        """
        self._encoded += 1
        lead = _ANCHOR if inside else ""
        encoding = self._tokenizer.encode(f"{lead}{left}{text}{right}", add_special_tokens=False)
        ids, offsets = encoding.ids, encoding.offsets
        start = len(lead) + len(left)
        stop = start + len(text)
        first, last = 1 if lead else 0, len(ids)
        if left:
            while first < last and offsets[first][1] <= start:
                first += 1
            if first < last and offsets[first][0] < start:
                return None
        if right:
            while last > first and offsets[last - 1][0] >= stop:
                last -= 1
            if last > first and offsets[last - 1][1] > stop:
                return None
        spans = [(low - start, high - start) for low, high in offsets[first:last]]
        # One object for each number: a kept token then takes eight bytes.
        numbers = [self._numbers.setdefault(number, number) for number in ids[first:last]]
        return EncodedPiece(numbers, tuple(_to_tokens(mark, spans) for mark in marks))

    def info(self) -> TokenCacheInfo:
        """Return how much was tokenized and how much is cached."""
        return TokenCacheInfo(self._encoded, len(self._pieces), self._tokens, self._evicted)


@lru_cache(maxsize=8)
def get_encoder(tokenizer: NamedTokenizer) -> TextEncoder:
    """Return the process's encoder of a tokenizer."""
    return TextEncoder(tokenizer.content)


def _to_tokens(mark: TextSpan, spans: Sequence[tuple[int, int]]) -> TextSpan:
    """Find the tokens of a range of characters; a token that crosses its edge belongs to it."""
    first = next((place for place, (_, high) in enumerate(spans) if high > mark.start), len(spans))
    last = first
    while last < len(spans) and spans[last][0] < mark.stop:
        last += 1
    return TextSpan(mark.kind, first, last)


def _control_tokens(content: TokenizerContent, state: dict[str, Any]) -> dict[str, int]:
    """Name the tokens that are not text; -1 until their ids are looked up."""
    template = content.chat_template or ""
    control = {token: -1 for token in map(content.special, ("bos_token", "eos_token")) if token}
    for token in state["added_tokens"]:
        written = token["content"] in template and not token["content"].isspace()
        if token["special"] or written:
            control[token["content"]] = -1
    return control


def _rebuild(state: dict[str, Any], control: set[str]) -> tuple[Any, tuple[int, ...]]:
    """Build the tokenizer with its control tokens out of reach; numbers stay as they are."""
    library = import_tokenizers()
    hidden = {token: TextEncoder._hidden(token) for token in control}
    added = [
        {**token, "content": hidden[token["content"]], "normalized": False, "lstrip": False, "rstrip": False}
        if token["content"] in hidden
        else token
        for token in state["added_tokens"]
    ]
    model = _hide_in_model(state["model"], hidden)
    tokenizer = library.Tokenizer.from_str(
        json.dumps({**state, "added_tokens": added, "model": model}, ensure_ascii=False)
    )
    # Tokens that it puts before any text by itself, such as <s>.
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a").ids
    starts = [place for place in range(len(whole)) if whole[place : place + len(bare)] == bare]
    tokenizer.post_processor = library.processors.Sequence([])  # some trim spaces from offsets
    tokenizer.add_special_tokens([library.AddedToken(_ANCHOR, normalized=False)])
    return tokenizer, tuple(whole[: starts[0]] if starts else ())


def _hide_in_model(model: dict[str, Any], hidden: dict[str, str]) -> dict[str, Any]:
    vocab = model.get("vocab", {})
    if isinstance(vocab, list):  # Unigram: pieces with their scores
        return {**model, "vocab": [[hidden.get(piece, piece), score] for piece, score in vocab]}
    if not any(token in vocab for token in hidden):
        return model
    model = {**model, "vocab": {hidden.get(token, token): number for token, number in vocab.items()}}
    if model.get("unk_token") in hidden:
        model["unk_token"] = hidden[model["unk_token"]]
    if "merges" in model:  # none may lead to a control token
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        kept = [pair for pair in pairs if not hidden.keys() & {*pair, "".join(pair)}]
        model["merges"] = [list(pair) for pair in kept]
    return model


def _splitter(control: Sequence[str], added: dict[str, dict[str, Any]]) -> re.Pattern[str] | None:
    """Build the pattern that finds control tokens, with the spaces that some of them take along."""
    if not control:
        return None
    words = []
    for token in sorted(control, key=len, reverse=True):
        flags = added.get(token, {})
        before, after = (r"\s*" if flags.get(flag) else "" for flag in ("lstrip", "rstrip"))
        words.append(f"{before}{re.escape(token)}{after}")
    return re.compile(f"({'|'.join(words)})")
