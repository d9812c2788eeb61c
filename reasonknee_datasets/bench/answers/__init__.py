"""Answer parser: a model's text in, typed slots and a box out, each with its rules or a named reason."""

from __future__ import annotations

from reasonknee_datasets.bench.answers.answer_box import parse_box
from reasonknee_datasets.bench.answers.outcome import (
    CODEC_VERSION,
    REASONS,
    RULES,
    ParsedAnswer,
    ParsedBox,
    SlotAnswer,
    official_parse,
    write,
)
from reasonknee_datasets.bench.answers.parse import parse_answer

__all__ = [
    "CODEC_VERSION",
    "REASONS",
    "RULES",
    "ParsedAnswer",
    "ParsedBox",
    "SlotAnswer",
    "official_parse",
    "parse_answer",
    "parse_box",
    "write",
]
