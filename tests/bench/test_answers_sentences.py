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


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_parse_answer_of_hand_read_sentences(kind: str) -> None:
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


def test_parse_answer_of_sentences_without_their_denial() -> None:
    denied = next(case for case in CASES if case.kind == "denied" and " is not grade " in case.text)
    read = parse_answer(denied.question, denied.text.replace(" is not grade ", " is grade "))
    assert [answer.grade for answer in read.slots] != [None]


# The memory that reading takes in addition to the package's own, at most; tokens of 2 MB at once would take more.
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
    (42, "I toyed with grade 1 because of a faint line near the ligament. That l"),
    (50, "A horizontal tear (3) can be excluded, as can a complex tear (5). It i"),
    (43, "The scale runs from 0, physiologic, to 3, large with distension. This "),
    (17, "Not a full-thickness defect, so depth 1 and 2 are out and depth is 0. "),
    (50, "Nothing of the meniscus is left, which is the last category of the sca"),
    (42, "The second highest grade fits."),
    (17, "The size gets the highest grade, the depth the lowest."),
    (25, "It is 2.1 in MOAKS notation."),
    (17, "For the size I put 1 and for the depth 1 too."),
    (14, "First, size: the lesion fills a fifth, hence 1. Second, number: there "),
    (42, 'The prior images were missing, so I rely on today\'s: {"MOAKS_scores": '),
    (42, 'The signal has no mass effect. Suppose nothing; I measured it: {"MOAKS'),
    (42, "Whoever reads only slice 9 will call it 2. The other slices show it to"),
    (42, "It isn't normal, so not 0. It isn't diffuse, so not 3. I decide for 1."),
    (38, "Lateral central femoral osteophyte - earlier I gave it 3, which was to"),
    (43, "In an earlier answer I put 2. Please take 3."),
    (42, "The MOAKS score is the maximal one, 3."),
    (60, "With a complete tear = 1, bml/cyst = 1 and repair = 0 we are done."),
    (42, 'The axial images did not arrive, but those that did suffice: {"MOAKS_s'),
    (42, 'I cannot see the popliteus, which does not matter here: {"MOAKS_scores'),
    (42, "Okay, so that would be:"),
    (42, "Taking everything into account:"),
    (60, '{"ACL": {"Complete Tear": 1, "Associated with BML/cyst at site of insertion or origin": 0'),
    (36, "**Question:** osteophyte, femur medial posterior"),
    (43, "Suprapatellar fluid is evident, its contour convex."),
    (60, "The ACL can't be followed to its origin.\nComplete Tear"),
    (19, "**Region:** medial central femur, cartilage\n\n**Adj"),
    (54, "## Medial meniscal cyst\n\n1. A multilocular"),
    (1, "## Patella medial BML\nTwo tiny foci."),
    (60, "Complete tear / BML or cyst / repair: 0 / 1 / 0"),
    (43, "While a few would stop at 2, I maintain"),
    (61, "Both complete tear and insertion BML/cyst are"),
    (19, "For size as well as depth I give a 1."),
    (43, "The suprapatellar pouch has a thin fluid layer."),
    (45, "The medial meniscus bulges 4 mm past the tibial edge."),
    (38, "Lateral central femoral margin: medium spur."),
    (42, "I wrote 1 at first, but that was an error: 2."),
    (43, "Another reader could grade this 3, but in my"),
    (42, "The textbook picture of grade 2 is brighter, so I take"),
    (42, "Some radiologists might give 1 for this;"),
    (43, "Most readers would say 1, 2 or 3; it is 2."),
    (43, "## Step 1: Look at the retropatellar space"),
    (19, "The cartilage of the central medial femur was examined slice by slice."),
    (43, "Grade 2. I take that back: the final grade is 1."),
    (69, "I looked for loose bodies in the suprapatellar recess, the gutters, t"),
    (6, "Trochlea, lateral: BML involving about 50% (2). Single (1). No cyst (3)."),
    (25, "(size) 1, (depth) 1"),
    (45, "The extrusion score for the medial meniscus is 1 medially and 0 anteri"),
    (50, "At first glance this looks like a complex tear, grade 5. Looking again"),
    (7, "I would assign a size of grade 1, a number of grade 2, and a BML perce"),
    (43, "Previous examination: effusion-synovitis grade 1. On the current exami"),
    (33, "Das MRT zeigt einen kleinen knöchernen Anbau am lateralen Patellarand."),
    (29, "Size of lesion,Depth of lesion\n1,0"),
    (26, "The surface area involved is hard to estimate: it may be grade 1, it m"),
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


def test_parse_answer_of_hand_written_answers() -> None:
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
