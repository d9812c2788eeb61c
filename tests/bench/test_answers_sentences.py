"""Thousands of generated answers are read as a person reads them, and megabytes of anything in bounded memory."""

from __future__ import annotations

import collections
import re
import subprocess
import sys

import pytest

from reasonknee_datasets.bench.answers import parse_answer
from tests.bench.golden.reading import FOLDER
from tests.helpers import answer_sentences

CASES = list(answer_sentences.cases(seed=0))
KINDS = sorted({case.kind for case in CASES})


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_are_read_as_a_person_reads_them(kind: str) -> None:
    wrong = [
        (case.question, case.text, case.grades, found)
        for case in CASES
        if case.kind == kind and (found := parse_answer(case.question, case.text).grades) != case.grades
    ]
    assert not wrong, wrong[:5]


def test_sentences_are_many_and_of_every_kind() -> None:
    counts = collections.Counter(case.kind for case in CASES)
    assert sum(counts.values()) > 5000
    assert min(counts.values()) >= 40
    assert {case.question for case in CASES} == set(range(1, 70))


def test_a_sentence_with_its_denial_taken_out_is_read() -> None:
    denied = next(case for case in CASES if case.kind == "denied" and " is not grade " in case.text)
    read = parse_answer(denied.question, denied.text.replace(" is not grade ", " is grade "))
    assert [answer.grade for answer in read.slots] != [None]


# The memory that reading takes beside the package's own, at most; tokens of 2 MB at once would take more.
_READ = """
import resource, sys
from reasonknee_datasets.bench.answers import parse_answer, parse_box
from reasonknee_datasets.boxes import BoxConvention

def read(text):
    parse_answer(42, text), parse_answer(4, text), parse_box(text, convention=BoxConvention(), shape=None)

read("Grade 2.")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 700_000_000,) * 2)
read(eval(sys.argv[1]))
"""
HOSTILE = (
    "'*' * 1_000_000",
    "'#' * 1_000_000",
    "'[' * 1_000_000",
    "'{' * 1_000_000",
    "'\"' * 1_000_000",
    "'[' * 500_000 + ']' * 500_000",
    "'{\"a\":' * 200_000",
    "'{\"a\":' * 200_000 + '1' + '}' * 200_000",
    "'{\"grade\": \"' + 'a' * 2_000_000",
    "'{\"grade\": \"' + 'a\" ' * 300_000 + '\"}'",
    "'{\"reasoning\": \"' + '{\\\\\"a\\\\\": ' * 200_000 + '\"}'",
    "'a: ' * 300_000",
)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space as Linux does")
@pytest.mark.parametrize("text", HOSTILE)
def test_parse_answer_memory_is_bounded(text: str) -> None:
    subprocess.run([sys.executable, "-c", _READ, text], check=True, timeout=300)


def test_parse_answer_memory_test_can_fail() -> None:
    done = subprocess.run([sys.executable, "-c", _READ, "'x' * 10**9"], check=False, capture_output=True, text=True)
    assert "MemoryError" in done.stderr


def test_parse_answer_honest_text_with_many_brackets() -> None:
    text = "The fat pad is bright [1] (slice 40). " * 2000 + '{"MOAKS_scores": {"Hoffa-Synovitis": {"grade": 2}}}'
    assert parse_answer(42, text).grades == {"grade": 2}


def hand_written() -> list[tuple[int, dict[str, str], str]]:
    text = (FOLDER / "hand_written_answers.md").read_text(encoding="utf-8").partition("\n\n@")[2]
    found = []
    for answer in re.split(r"(?m)^@", text):
        head, _, body = answer.partition("\n")
        question, *expected = head.split()
        found.append(
            (int(question), dict(pair.split("=") for pair in expected), body.rstrip("\n").replace("\\n", "\n"))
        )
    return found


def test_hand_written_answers_are_read_as_a_person_reads_them() -> None:
    answers = hand_written()
    assert len(answers) > 1200
    wrong = [
        (question, slot.slot.attribute, slot.grade, text)
        for question, expected, text in answers
        for slot in parse_answer(question, text).slots
        if ("-" if slot.grade is None else str(slot.grade)) != expected[slot.slot.attribute]
    ]
    assert not wrong, wrong[:5]
