"""Prompts: the official ones verbatim, two of them mended by a rule, and each with its hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BenchError, ReleaseError
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.prompts.prompt_set import (
    FRAGMENT,
    FRAME_CONVENTION,
    REPAIR,
    Prompts,
    box_prompt,
    prompt_hash,
    repair,
)
from tests.helpers.paths import NO_OFFICIAL, OFFICIAL

_REAL = OFFICIAL
_WORDINGS = ("zeroshot", "guided")


@pytest.fixture
def official() -> Path:
    if not (_REAL / "question_files").is_dir():
        pytest.skip(NO_OFFICIAL)
    return _REAL


@pytest.mark.parametrize("wording", _WORDINGS)
def test_official_prompts_are_verbatim_but_for_two(official: Path, wording: str) -> None:
    raw = json.loads((official / "question_files" / f"questions_nobbox_{wording}.json").read_text(encoding="utf-8"))
    prompts = Prompts.from_files(official, wording)  # type: ignore[arg-type]
    assert prompts.source == "official files"
    assert prompts.repaired == (58, 59)
    assert {number: text for number, text in prompts.texts.items() if number not in (58, 59)} == {
        int(key): text for key, text in raw.items() if key not in ("58", "59")
    }
    kept = Prompts.from_files(official / "question_files", wording, "keep")  # type: ignore[arg-type]
    assert dict(kept.texts) == {int(key): text for key, text in raw.items()}
    assert kept.hashes([58]) == {"58": hashlib.sha256(raw["58"].encode()).hexdigest()}


@pytest.mark.parametrize("wording", _WORDINGS)
def test_the_mended_prompts_read_like_their_neighbours(official: Path, wording: str) -> None:
    texts = Prompts.from_files(official, wording).texts  # type: ignore[arg-type]
    for mended, neighbour, side in ((58, 56, "medial"), (59, 57, "lateral")):
        tail = texts[mended][texts[mended].index("Provide your reasoning") :]
        wanted = texts[neighbour][texts[neighbour].index("Provide your reasoning") :].strip()
        wanted = wanted.replace("hypertrophy presence", "root tear presence")
        assert tail == wanted.replace(f"{side}_meniscal_hypertrophy", f"{side}_meniscal_root_tear")


@pytest.mark.parametrize("wording", _WORDINGS)
def test_damage_is_left_out_on_request(wording: str) -> None:
    prompts = Prompts.own(wording, "leave_out")  # type: ignore[arg-type]
    assert prompts.left_out == (58, 59)
    assert len(prompts.texts) == 67
    with pytest.raises(BenchError, match="Question 58 has no prompt: its text is damaged and was left out"):
        prompts.text(58)


@pytest.mark.parametrize("wording", _WORDINGS)
def test_own_prompts_are_repaired_alike(wording: str) -> None:
    kept, mended = Prompts.own(wording, "keep"), Prompts.own(wording)  # type: ignore[arg-type]
    assert {number for number, text in kept.texts.items() if text != mended.texts[number]} == {58, 59}
    for number in (58, 59):
        before, after = kept.texts[number].split(FRAGMENT)
        assert mended.texts[number] == before + REPAIR + after
        assert after.startswith(f'"{QUESTIONS[number].subject_key}"')
        assert mended.texts[number].count("{") == mended.texts[number].count("}")
    assert repair("Any tear?") == "Any tear?"


def test_each_prompt_has_its_hash() -> None:
    prompts = Prompts.own("guided")
    hashes = prompts.hashes([19, 1, 19])
    assert list(hashes) == ["1", "19"]
    assert hashes["19"] == hashlib.sha256(prompts.texts[19].encode()).hexdigest() == prompt_hash(prompts.texts[19])
    assert hashes["19"] != Prompts.own("zeroshot").hashes([19])["19"]


def test_rows_give_their_own_texts() -> None:
    prompts = Prompts.from_rows([(1, "One?"), (2, "Two?"), (1, "One?")])
    assert (dict(prompts.texts), prompts.source) == ({1: "One?", 2: "Two?"}, "rows")
    with pytest.raises(BenchError, match="Question 3 has no prompt: none in the rows"):
        prompts.text(3)
    with pytest.raises(BenchError, match="Question 1 has two different texts in the rows"):
        Prompts.from_rows([(1, "One?"), (1, "Eins?")])


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="The official question file"):
        Prompts.from_files(tmp_path, "guided")
    file = tmp_path / "questions.json"
    file.write_text('{"1": 2}')
    with pytest.raises(ReleaseError, match=r"question file .* contains int under .* texts under the numbers"):
        Prompts.from_files(file, "guided")
    with pytest.raises(BenchError, match="Unknown treatment 'mend' of damaged prompts"):
        Prompts.of({}, "project", "mend")  # type: ignore[arg-type]


def test_from_files_finds_file_or_release(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "question_files"
    folder.mkdir(parents=True)
    (folder / "questions_nobbox_guided.json").write_text('{"1": "Guided?"}', encoding="utf-8")
    assert Prompts.from_files(tmp_path, "guided").texts == {1: "Guided?"}
    assert Prompts.from_files(folder / "questions_nobbox_guided.json", "zeroshot").texts == {1: "Guided?"}
    with pytest.raises(BenchError, match=r"The official question file .* does not exist"):
        Prompts.from_files(tmp_path, "zeroshot")


@pytest.mark.parametrize("number", sorted(QUESTIONS))
def test_localisation_prompt_uses_frame_numbers(number: int) -> None:
    text = box_prompt(QUESTIONS[number], (32, 384, 352))
    assert "counted from 0 to 31 " in text
    assert "from 0 at the left to 351;" in text
    assert "from 0 at the top to 383." in text
    assert not {"grade", "MOAKS", "0-3"} & set(text.split())


def test_the_numbers_mean_what_the_question_says() -> None:
    # First and last frame, then columns, then rows, both ends inside.
    box = Box((3, 100, 40), (6, 151, 61))
    assert FRAME_CONVENTION.encode(box, (32, 384, 352)) == [3, 5, 40, 60, 100, 150]
    assert FRAME_CONVENTION.positions == ("slice_start", "slice_end", "x_start", "x_end", "y_start", "y_end")
