"""The answer codec: a model's text in, typed slots and a box out, each with the rule that read it or a named reason."""

from __future__ import annotations

from reasonknee_datasets.bench.codec.answer import parse_answer
from reasonknee_datasets.bench.codec.box import parse_box
from reasonknee_datasets.bench.codec.rules import CODEC_VERSION, RULES
from reasonknee_datasets.bench.codec.values import REASONS, ParsedAnswer, ParsedBox, SlotAnswer
from reasonknee_datasets.bench.codec.write import official_parse, write

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
