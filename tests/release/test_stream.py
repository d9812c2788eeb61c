"""Records out of a JSON list: every one, in little memory, and the exact byte where a file breaks."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonknee_datasets.release.record_files import CHUNK, InvalidJSONError, stream_records
from tests.helpers.paths import ROOT

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(items=st.lists(JSON, max_size=5), ascii_only=st.booleans(), indent=st.sampled_from([None, 4]))
def test_items_write_back_as_they_were(tmp_path_factory: Any, items: list[Any], ascii_only: bool, indent: int) -> None:
    path = tmp_path_factory.mktemp("stream") / "a.json"
    # Lone surrogates are not characters, and UTF-8 cannot hold them.
    path.write_bytes(json.dumps(items, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace"))
    wanted = json.loads(path.read_bytes())
    assert json.dumps(list(stream_records(path))) == json.dumps(wanted)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf [1, 2]\n")
    assert list(stream_records(tmp_path / "a.json")) == [1, 2]


RECORD = {"text": "x" * 700, "numbers": [1, 2.5]}


@pytest.mark.parametrize("before", [0, 1, 200, 1000])
@pytest.mark.parametrize(
    ("broken", "inside", "reason"),
    [
        ('{"a": NaN}', 6, "invalid char in json text"),
        ('{"a": 1,}', 8, "invalid object key|allowed"),
        ('{"a": tru}', 9, "invalid string in json text"),
        ('{"a": 1} {"b": 2}', 9, "after array element"),
    ],
)
def test_broken_json_is_placed_to_the_byte(tmp_path: Path, before: int, broken: str, inside: int, reason: str) -> None:
    path = tmp_path / "a.json"
    head = "[" + "".join(json.dumps(RECORD) + ",\n" for _ in range(before))
    path.write_text(head + broken + ",\n" + json.dumps(RECORD) + "]")
    assert before < 200 or len(head) > CHUNK
    good: list[Any] = []
    with pytest.raises(InvalidJSONError, match=reason) as error:
        good.extend(stream_records(path))
    assert good[:before] == [RECORD] * before
    assert f"at byte {len(head) + inside:,} of {path}" in str(error.value)
    last = f"record {len(good) - 1} is the last good one" if good else "no record before it is good"
    assert last in str(error.value)


def test_stream_records_of_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    whole = json.dumps([RECORD] * 300)
    cut = len(whole) // 2 - 50
    path.write_text(whole[:cut])
    good: list[Any] = []
    with pytest.raises(InvalidJSONError, match=r"premature EOF \(is it cut short\?\) at byte") as error:
        good.extend(stream_records(path))
    assert good == [RECORD] * 149
    assert f"at byte {cut:,} of" in str(error.value)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(InvalidJSONError, match=r"invalid bytes in UTF8 string near .*at byte 8 of"):
        list(stream_records(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("content", "got"),
    [(b"", "an empty file"), (b'{"a": []}', "a file that begins with '{'"), (b"  \n", "an empty file")],
)
def test_what_is_no_list_is_refused(tmp_path: Path, content: bytes, got: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InvalidJSONError, match=f"This is not a JSON list of records: {got} at byte 0"):
        list(stream_records(tmp_path / "a.json"))


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_stream_records_endless_brackets(tmp_path: Path, opening: bytes) -> None:
    (tmp_path / "a.json").write_bytes(b"[1, " + opening * 100_000)
    with pytest.raises(InvalidJSONError, match=r"more than 1000 nested brackets at byte 0 of"):
        list(stream_records(tmp_path / "a.json"))


MEASURE = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from reasonknee_datasets.release.record_files import stream_records
    from tests.helpers.peak import peak_bytes
    before = peak_bytes()
    count = sum(1 for _ in stream_records(Path(sys.argv[1])))
    print(count, (peak_bytes() - before) / 1e6)
    """
)


@pytest.mark.slow
def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    record = json.dumps({"image": "i", "prompt": "p" * 800, "answer": "a" * 1200, "final_diagnosis": {"x": [1] * 6}})
    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write("[" + record)
        for _ in range(50_000):
            file.write(",\n" + record)
        file.write("]")
    assert path.stat().st_size > 100e6
    # In a process of its own: a high-water mark never falls.
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    count, megabytes = run.stdout.split()
    assert int(count) == 50_001
    assert float(megabytes) < 20
