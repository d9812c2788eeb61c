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


# Readable, but refused: none of these is given another grade than a person reads. A case that is read is taken out.
UNREAD = (
    (42, "Hoffa-synovitis severity 3/3? No: looking at the neighbouring slices"),
    (60, '{"ACL": {"Complete Tear": 1, "Associated with BML/cyst at site of insertion or origin": 0'),
)


def hand_written() -> list[tuple[int, dict[str, str], str]]:
    found = []
    for path in sorted((FOLDER / "hand_written").glob("*.txt")):
        text = path.read_text(encoding="utf-8").partition("\n\n@")[2]
        for answer in re.split(r"(?m)^@", text):
            head, _, body = answer.partition("\n")
            question, *expected = head.split()
            said = body.rstrip("\n").replace("\\n", "\n")
            found.append((int(question), dict(pair.split("=") for pair in expected), said))
    return found


def test_hand_written_answers_are_read_as_a_person_reads_them() -> None:
    answers = hand_written()
    assert len(answers) > 2400
    wrong, unread = [], set()
    for question, expected, text in answers:
        grades = [slot.grade for slot in parse_answer(question, text).slots]
        given = ["-" if grade is None else str(grade) for grade in grades]
        if given == list(expected.values()):
            continue
        known = next((case for case in UNREAD if case[0] == question and text.startswith(case[1])), None)
        if known is None or any(one not in ("-", other) for one, other in zip(given, expected.values(), strict=True)):
            wrong.append((question, expected, given, text))
        else:
            unread.add(known)
    assert not wrong, wrong[:5]
    assert unread == set(UNREAD)
