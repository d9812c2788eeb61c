"""Tokens of examples whose texts have been met before, against the tokenizer called for each."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.feeds import IGNORED, tokens_of
from tests.benchmarks.knee_rows import Knees
from tests.benchmarks.timing import Contender, Times, race

OURS, BARE, TEMPLATE = "reasonknee_datasets", "tokenizer called per example", "its chat template applied per example"
_BATCH = 62


def measure(knees: Knees) -> dict[str, Times]:
    """Race over the rows, in pieces of 62; the time of a piece is divided by its rows."""
    tokenize, tokenizer = knees.tokenize(), knees.tokenizer
    rows = [knees.crop(row) for row in knees.dataset]
    pairs = list(zip(rows, knees.questions, strict=True))
    for row, question in pairs:  # held to the tokenizer's own answer, and met once
        ids, labels = tokens_of(question, tokenizer)
        made = tokenize(row)
        if (made["input_ids"], made["labels"]) != (ids.tolist(), labels.tolist()):
            raise AssertionError(f"{OURS} must give the tokens of {question.id}")

    def ours(piece: list[Any]) -> None:
        for row, _ in piece:
            tokenize(row)

    def bare(piece: list[Any]) -> None:
        for _, question in piece:
            prompt = tokenizer(question.prompt, add_special_tokens=False)["input_ids"]
            completion = tokenizer(question.completion, add_special_tokens=False)["input_ids"]
            _ = [*prompt, *completion], [IGNORED] * len(prompt) + completion

    def template(piece: list[Any]) -> None:
        for _, question in piece:
            user = {"role": "user", "content": question.prompt}
            tokenizer.apply_chat_template([user, {"role": "assistant", "content": question.completion}])

    pieces = [pairs[start : start + _BATCH] for start in range(0, len(pairs), _BATCH)]
    pieces = [piece for piece in pieces if len(piece) == _BATCH] or [pairs]
    share = 1 / len(pieces[0])
    ways = ((OURS, ours), (BARE, bare), (TEMPLATE, template))
    times = race([Contender(name, way) for name, way in ways], pieces)
    return {name: _each(found, share) for name, found in times.items()}


def _each(times: Times, share: float) -> Times:
    return Times([wall * share for wall in times.walls], [cpu * share for cpu in times.cpus])
