"""Mutated answers: never an exception, never a value without a rule, never a grade or box that is not legal.

The suite runs 2,000 (tests/bench/test_answers.py); a developer runs more:
``python -m tests.helpers.fuzz_answers --count 100000``.
Each text is a golden or canonical answer cut, doubled, spliced, requoted or salted. In addition, the
same text gives the same answer twice; an answer read by json.loads alone holds what json.loads gives; and where the
slot's only grade that a mutation can have left is the true one, no other comes out: digits are never made up.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from reasonknee_datasets.bench.answers import REASONS, RULES, ParsedAnswer, parse_answer, parse_box, write
from reasonknee_datasets.bench.answers.grade_values import NUMBER_WORDS
from reasonknee_datasets.bench.answers.scale_words import scale_of
from reasonknee_datasets.bench.answers.words import ROMAN
from reasonknee_datasets.boxes import CONVENTIONS, Box
from reasonknee_datasets.moaks import QUESTIONS, Slot
from tests.bench.golden import reading

SHAPES = ((24, 40, 32), (160, 384, 384))
SALT = (
    *"{}[]()\"'`:;,=|\\/#*-–<>.%!?\n\t _0123456789",
    *(
        "“",
        "”",
        "’",
        "，",
        "：",
        "\u200b",
        "\ufeff",
        "\x00",
        "\ud800",
        "٢",
        "Ⅱ",
        "½",
        "/*",
        "*/",
        "//",
        "```",
        "~~~",
        "```json\n",
    ),
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<|im_end|>",
        "<|channel|>final<|message|>",
        "[THINK]",
        "\\boxed{",
    ),
    *(
        "grade ",
        "Grade 2",
        "score",
        "two",
        "null",
        "None",
        "NaN",
        "true",
        "False",
        "Infinity",
        "1e999",
        "-0",
        "0.0",
        "2.0",
    ),
    *(
        "Final answer: ",
        "for example ",
        "I'm sorry, I can't ",
        "not ",
        " or ",
        " of 3",
        " mm",
        "...",
        "(grade from 0-3)",
    ),
    *(
        '{"',
        '"}',
        '": ',
        '", "',
        "{{",
        "}}",
        "\\n",
        '\\"',
        "\\u00",
        "| a | b |\n|---|---|\n",
        "Size: ",
        "depth: ",
        "presence",
    ),
    *(
        '"MOAKS_scores": {',
        '"bounding_box": [',
        "bounding box: [1, 2, 3, 4, 5, 6]",
        "femur medial central cartilage lesion: ",
    ),
)
ENDS = (None, None, None, "stop", "length", "content_filter", "tool_calls", "")


@dataclass
class Tally:
    """Counts of a run."""

    cases: int = 0
    rules: collections.Counter[str] = field(default_factory=collections.Counter)
    reasons: collections.Counter[str] = field(default_factory=collections.Counter)
    boxes: int = 0


def _cut(rng: random.Random, text: str, _: str) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _drop(rng: random.Random, text: str, _: str) -> str:
    start = rng.randrange(len(text) + 1)
    return text[:start] + text[start + rng.randrange(1, 12) :]


def _salt(rng: random.Random, text: str, _: str) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(SALT) * rng.choice((1, 1, 1, 2, 30)) + text[place:]


def _replace(rng: random.Random, text: str, _: str) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(SALT) + text[place + 1 :]


def _double(rng: random.Random, text: str, _: str) -> str:
    start = rng.randrange(len(text) + 1)
    piece = text[start : start + rng.randrange(1, 80)]
    return text[:start] + piece * rng.randrange(2, 4) + text[start:]


def _splice(rng: random.Random, text: str, other: str) -> str:
    return text[: rng.randrange(len(text) + 1)] + other[rng.randrange(len(other) + 1) :]


def _join(rng: random.Random, text: str, other: str) -> str:
    return text + rng.choice(("", "\n", " ", "\n\nFinal answer:\n", " or ")) + other


def _requote(rng: random.Random, text: str, _: str) -> str:
    old, new = rng.sample(["'", '"', "“", "`", '\\"', "", "{", "}", ":", ",", "\n"], 2)
    return text.replace(old, new) if old else text


def _swap(rng: random.Random, text: str, _: str) -> str:
    words = re.split(r"(\W+)", text)
    if len(words) > 3:
        one, other = rng.randrange(len(words)), rng.randrange(len(words))
        words[one], words[other] = words[other], words[one]
    return "".join(words)


def _case(rng: random.Random, text: str, _: str) -> str:
    return rng.choice((str.upper, str.lower, str.swapcase, str.title))(text)


MUTATIONS: tuple[Callable[[random.Random, str, str], str], ...] = (
    *(_cut, _drop, _drop, _salt, _salt, _salt, _replace, _replace, _double, _splice, _join, _requote, _swap, _case),
)


def seeds() -> list[tuple[int, str]]:
    """Return the answers that mutations begin with: the golden ones, and the canonical one of every question."""
    found = [(int(golden.fields["question"].split()[0]), golden.said) for golden in reading.answers()]
    found += [(30, golden.said) for golden in reading.boxes() * 3]
    for question in QUESTIONS.values():
        grades = {slot.attribute: slot.high for slot in question.slots}
        found.append((question.id, write(question, grades, Box((1, 2, 3), (9, 8, 7)), CONVENTIONS[0])))
    return found


def could_say(slot: Slot, grade: int, text: str) -> bool:
    """Check whether a text contains anything that may mean a grade: a digit, a word, or a boolean."""
    said = re.sub(r"[\u200b\u200c\u200d\u2060\ufeff*`\\]", "", text).casefold()
    words = [word for word, number in NUMBER_WORDS.items() if number == grade]
    words += [word for word, number in scale_of(slot.id).items() if number == grade]
    words += [letters for letters, number in ROMAN.items() if number == grade]
    said = said.translate({0xFF10 + digit: str(digit) for digit in range(10)})
    squeezed = re.sub(r"[\s–—-]+", "", said)
    return (
        str(grade) in said
        or any(re.sub(r"[\s-]+", "", word) in squeezed for word in words)
        or bool(re.search("[\u2160-\u2168\u2170-\u2178]", said))
        or "\\u" in said
    )


def check_answer(question: int, text: str, ended: str | None, tally: Tally) -> ParsedAnswer:
    """Hold one answer to what must be true of any."""
    answer = parse_answer(question, text, finish_reason=ended)
    assert answer == parse_answer(question, text, finish_reason=ended)
    assert [given.slot for given in answer.slots] == list(QUESTIONS[question].slots)
    for given in answer.slots:
        if given.grade is None:
            assert given.reason in REASONS, given
            assert given.rules == (), given
            tally.reasons[given.reason] += 1
        else:
            assert given.reason is None, given
            assert given.grade in given.slot.legal, given
            assert given.rules, given
            assert set(given.rules) <= set(RULES), given
            assert could_say(given.slot, given.grade, text), given
            tally.rules.update(given.rules)
    if answer.strict or any(given.rules == ("strict",) for given in answer.slots):
        json.loads(text)
    return answer


def check_box(text: str, rng: random.Random, ended: str | None, tally: Tally) -> None:
    """Hold one box to what must be true of any."""
    shape = rng.choice(SHAPES)
    found = parse_box(text, convention=rng.choice(CONVENTIONS), shape=shape, finish_reason=ended)
    if found.box is None:
        assert found.reason in REASONS, found
        assert found.rules == (), found
    else:
        assert found.reason is None, found
        assert set(found.rules) <= set(RULES), found
        assert found.box.check_inside(shape) == found.box
        tally.rules.update(found.rules)
        tally.boxes += 1


def run(count: int, seed: int = 0) -> Tally:
    """Parse mutated answers and hold each to what must be true of any."""
    rng, begun, tally = random.Random(seed), seeds(), Tally()
    for _ in range(count):
        question, text = rng.choice(begun)
        other = rng.choice(begun)[1]
        for _ in range(rng.choice((1, 1, 2, 3, 6))):
            text = rng.choice(MUTATIONS)(rng, text, other)
        question = rng.choice((question, question, question, rng.randrange(1, 70)))
        ended = rng.choice(ENDS)
        try:
            check_answer(question, text, ended, tally)
            check_box(text, rng, ended, tally)
        except Exception as error:
            error.args = (f"{error}\nquestion {question}, ended {ended!r}, text {text!r}",)
            raise
        tally.cases += 1
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tally = run(options.count, options.seed)
    print(f"{tally.cases} cases, {sum(tally.rules.values())} rules applied, {tally.boxes} boxes")
    print("reasons:", dict(tally.reasons.most_common()))
    print("rules:", dict(tally.rules.most_common()))
    print("never applied:", sorted(set(RULES) - set(tally.rules)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
