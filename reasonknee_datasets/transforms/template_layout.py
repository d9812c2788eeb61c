"""`Layout`: a template laid out for one tokenizer, once, so that an example only fills it in.

The chat template is rendered with marks in the places of the fields, and split at them: what is between two marks is
the model's own scaffolding, whose control tokens are tokens. What is put into the places is text. A chat template that
does not pass on what it is given, or writes a prompt otherwise when no answer follows, is refused here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from reasonknee_datasets.errors import missing_extra
from reasonknee_datasets.transforms.base import TransformError
from reasonknee_datasets.transforms.piece_cache import TextEncoder
from reasonknee_datasets.transforms.templates import Part, Template
from reasonknee_datasets.transforms.tokenizer import TokenizerContent

# Takes the place of a number next to a piece while the piece is tokenized.
DIGIT = "0"
_MARK = "\ufdd2{}\ufdd3"
_MARKED = re.compile("\ufdd2([0-9]+)\ufdd3")
_LEFT = 16  # characters of the prompt that a completion is tokenized after


@dataclass(frozen=True, slots=True)
class Chunk:
    """Contiguous text without numbers: literals and fields, and their neighbours."""

    parts: tuple[Part, ...]
    separator: str
    left: str
    right: str
    inside: bool


@dataclass(frozen=True, slots=True)
class Numbers:
    """The six numbers of ``box`` or ``official_answer``."""

    field: str


@dataclass(frozen=True, slots=True)
class Run:
    """Text between control tokens."""

    items: tuple[Chunk | Numbers, ...]


@dataclass(frozen=True, slots=True)
class Control:
    """One control token."""

    token: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """The placeholders of `Vision`."""


Item = Run | Control | Pictures


@dataclass(frozen=True, slots=True)
class Layout:
    """Prompt and completion, taken apart; ``prefixed`` where the tokenizer puts tokens before any text by itself."""

    prompt: tuple[Item, ...]
    completion: tuple[Item, ...]
    prefixed: bool


def lay_out_template(template: Template, content: TokenizerContent, encoder: TextEncoder, *, pictures: bool) -> Layout:
    """Lay a template out for a tokenizer, with or without a place for pictures.

    Raises TransformError if the tokenizer has no chat template where one is needed, or no ``eos`` where one is named.
    """
    specials = {name: content.special(f"{name}_token") or "" for name in ("bos", "eos")}
    if "eos" in template.fields and not specials["eos"]:
        raise TransformError("The tokenizer has no eos token, which replaces {eos}. Set tokenizer.eos_token.")
    if template.chat:
        prompt, completion = _render(template, content)
    else:
        prompt, completion = template.parts("prompt"), template.parts("completion")
    # Interned, so that equal layouts pickle to equal bytes.
    first, second = (
        [(kind, sys.intern(text)) for kind, text in _split(parts, specials, encoder) if pictures or kind != "vision"]
        for parts in (prompt, completion)
    )
    before = first[-1] if first else None
    laid = tuple(_group(first, template.separator, ""))
    left = "" if before is None or before[0] in ("control", "vision") else _tail(before)
    opened = bool(laid)
    return Layout(laid, tuple(_group(second, template.separator, left, opened)), not template.chat)


def _split(parts: Sequence[Part], specials: dict[str, str], encoder: TextEncoder) -> Iterator[Part]:
    """Return text, fields, control tokens and the place of pictures, with brackets around a box's numbers."""
    for kind, text in parts:
        if kind == "text" or text in specials:
            for place, piece in enumerate(encoder.split(specials.get(text, text) if kind == "field" else text)):
                if place % 2:
                    yield "control", piece.strip()
                elif piece:
                    yield "text", piece
        elif text == "vision":
            yield "vision", ""
        elif text == "box":
            yield from (("open", "["), ("numbers", "box"), ("close", "]"))
        elif text == "official_answer":
            yield from (("field", "official_head"), ("numbers", "official_answer"), ("field", "official_tail"))
        else:
            yield "field", text


def _group(parts: Sequence[Part], separator: str, left: str, opened: bool = False) -> Iterator[Item]:
    """Join the text between control tokens into runs, and split these around numbers."""
    for markup, group in groupby(parts, key=lambda part: part[0] in ("control", "vision")):
        together = list(group)
        if markup:
            yield from (Control(text) if kind == "control" else Pictures() for kind, text in together)
        else:
            yield Run(tuple(_cut(together, separator, left, opened)))
        left, opened = "", True


def _cut(parts: Sequence[Part], separator: str, left: str, inside: bool) -> Iterator[Chunk | Numbers]:
    cuts = [list(group) for _, group in groupby(parts, key=lambda part: part[0] == "numbers")]
    for place, group in enumerate(cuts):
        if group[0][0] == "numbers":
            yield Numbers(group[0][1])
            left, inside = DIGIT, True
        else:
            yield Chunk(tuple(group), separator, left, DIGIT if place + 1 < len(cuts) else "", inside)


def _tail(part: Part) -> str:
    """Return the text before a completion; a field's last character is taken for a full stop."""
    kind, text = part
    return text[-_LEFT:] if kind in ("text", "close") else "."


def _render(template: Template, content: TokenizerContent) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Render the chat template with marks for fields, and take prompt and completion apart at them."""
    if content.chat_template is None:
        raise TransformError(
            "The tokenizer has no chat template. Pass the model's processor, set tokenizer.chat_template, or choose "
            'template="plain".'
        )
    fields: list[str] = []
    contents = {}
    for name in ("system", "prompt", "completion"):
        contents[name] = ""
        for kind, part in template.parts(name):
            contents[name] += part if kind == "text" else _MARK.format(len(fields))
            fields += [part] if kind == "field" else []
    roles = {"system": "system", "prompt": "user", "completion": "assistant"}
    spoken = [name for name in roles if name != "system" or template.system is not None]
    for listed in (False, True):  # some templates of vision models read lists of blocks only
        messages = [
            {"role": roles[name], "content": [{"type": "text", "text": contents[name]}] if listed else contents[name]}
            for name in spoken
        ]
        prompt = _apply(messages[:-1], content, add_generation_prompt=True)
        whole = _apply(messages, content, add_generation_prompt=False)
        found = [fields[int(number)] for number in _MARKED.findall(whole)]
        if found == fields:
            break
    else:
        raise TransformError(
            f"The chat template wrote the fields {found} instead of {fields}. Set tokenizer.chat_template to one that "
            "writes every message once and in order."
        )
    if not whole.startswith(prompt):
        raise TransformError(
            f"The chat template writes the prompt differently without an answer, ...{prompt[-40:]!r}, and with one, "
            f"{whole[len(prompt) - 40 : len(prompt)]!r}. Set tokenizer.chat_template to one whose generation prompt is "
            "the beginning of the assistant's turn."
        )
    return _take_apart(prompt, fields), _take_apart(whole[len(prompt) :], fields)


def _take_apart(text: str, fields: Sequence[str]) -> tuple[Part, ...]:
    pieces = _MARKED.split(text)
    parts = [("field", fields[int(piece)]) if place % 2 else ("text", piece) for place, piece in enumerate(pieces)]
    return tuple(part for part in parts if part[1])


def _apply(messages: list[dict[str, Any]], content: TokenizerContent, *, add_generation_prompt: bool) -> str:
    try:
        from transformers.utils.chat_template_utils import render_jinja_template
    except ImportError as error:
        raise missing_extra("transformers", "text", "chat templates") from error
    given: dict[str, Any] = dict(content.specials)
    rendered: Any = render_jinja_template(
        conversations=[messages],
        chat_template=content.chat_template,
        add_generation_prompt=add_generation_prompt,
        **given,
    )
    return str(rendered[0][0])
