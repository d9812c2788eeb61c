"""`OpenAIModel` against a real server that fails in every way that endpoints fail."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets.bench.conditions import GUIDED, OFFICIAL, OFFICIAL_O1, OWN_REGION
from reasonknee_datasets.bench.runner import AskError, Generation, OpenAIModel, Pace, Request, Retry, run
from reasonknee_datasets.bench.runner.requests import Message
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.transforms import ToFrames
from tests.model_server import Action, Cut, Garbage, Hang, ModelServer, Say, Script, Status

pytest.importorskip("openai")

_KEY = "sk-test-0123456789abcdef"
_TINY = ToFrames("sagittal", count=2, size=32)
_GUIDED = replace(GUIDED, frames=_TINY)
_ONE = Request("a", (Message("user", ("Any tear?",)),))
_WAITS = Retry(attempts=4, first=0, most=0)


def _script(*actions: Action) -> Script:
    """Do these, one after the other, and answer everything after."""
    return lambda number, body: actions[number] if number < len(actions) else Say()


def _model(server: ModelServer, **options: Any) -> OpenAIModel:
    return OpenAIModel("tiny", server.url, api_key=_KEY, **{"timeout": 20.0} | options)


def _run(server: ModelServer, prepared: Path, path: Path, condition: Any = _GUIDED, **options: Any) -> Any:
    options = {"patients": 1, "questions": [19, 60], "progress": False, "retry": _WAITS} | options
    return run(prepared, _model(server), condition, path, **options)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_an_answer_comes_with_its_tokens() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "total_tokens": 107,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    with ModelServer(_script(Say("{}", "length", usage))) as server:
        reply = _model(server).ask(_ONE, Generation(max_tokens=9, seed=3))
    assert (reply.text, reply.finish_reason, reply.served) == ("{}", "length", "tiny-snapshot")
    assert reply.usage == {
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "cached_tokens": 64,
        "reasoning_tokens": 5,
    }
    (seen,) = server.seen
    assert seen.body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Any tear?"}],
        "max_tokens": 9,
        "temperature": 0.0,
        "seed": 3,
    }
    assert seen.headers["authorization"] == f"Bearer {_KEY}"


def test_what_is_left_to_the_model_is_not_sent() -> None:
    with ModelServer(_script()) as server:
        model = _model(server, tokens_field="max_completion_tokens", extra={"chat_template_kwargs": {"x": 1}})
        model.ask(_ONE, Generation(None, None, None, "json_object", "low"))
        model.ask(_ONE, Generation(5, None))
    one, two = (set(seen.body) - {"model", "messages"} for seen in server.seen)
    assert one == {"response_format", "reasoning_effort", "chat_template_kwargs"}
    assert two == {"max_completion_tokens", "chat_template_kwargs"}


@pytest.mark.parametrize(
    ("action", "kind", "retry_after"),
    [
        (Status(429, {"Retry-After": "3"}), "transient", 3.0),
        (Status(429, {"retry-after-ms": "250"}), "transient", 0.25),
        (Status(429), "transient", None),
        (Status(429, {"Retry-After": "soon"}), "transient", None),
        (Status(500), "transient", None),
        (Status(503, {"Retry-After": "1"}), "transient", 1.0),
        (Status(408), "transient", None),
        (Status(400, message="context too long"), "refused", None),
        (Status(413), "refused", None),
        (Status(422), "refused", None),
        (Status(401, message="bad key"), "fatal", None),
        (Status(403), "fatal", None),
        (Status(404, message="no such model"), "fatal", None),
        (Cut(), "transient", None),
        (Cut(after=60), "transient", None),
        (Garbage(b"<html>Bad gateway</html>", "text/html"), "transient", None),
        (Garbage(b"{", "application/json"), "transient", None),
        (Garbage(b"\xff\xfe\x00", "application/json"), "transient", None),
        (Garbage(b"[]", "application/json"), "transient", None),
        (Garbage(b"null", "application/json"), "transient", None),
        (Garbage(b"{}", "application/json"), "transient", None),
        (Garbage(b'{"choices": []}', "application/json"), "transient", None),
        (Garbage(b'{"choices": [{"message": null}]}', "application/json"), "transient", None),
        (Garbage(b'{"choices": [{"message": {"content": 7}}]}', "application/json"), "transient", None),
        (Garbage(b"", "application/json"), "transient", None),
    ],
    ids=str,
)
def test_a_fault_is_judged_by_whether_asking_again_may_help(
    action: Action, kind: str, retry_after: float | None
) -> None:
    with ModelServer(_script(action)) as server:
        with pytest.raises(AskError, match=r"\w+") as caught:
            _model(server).ask(_ONE, Generation())
        # The client's own retries are off: they would be neither counted nor paced.
        assert len(server.seen) == 1
    assert (caught.value.kind, caught.value.retry_after) == (kind, retry_after)
    message = getattr(action, "message", "no")
    assert message == "no" or message in str(caught.value)


def test_a_date_says_how_long_to_wait_too() -> None:
    later = formatdate(time.time() + 100, usegmt=True)
    server = ModelServer(_script(Status(429, {"Retry-After": later})))
    with server, pytest.raises(AskError, match="RateLimitError") as caught:
        _model(server).ask(_ONE, Generation())
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 101


def test_silence_is_a_timeout() -> None:
    with ModelServer(_script(Hang())) as server:
        with pytest.raises(AskError, match="APITimeoutError") as caught:
            _model(server, timeout=0.2).ask(_ONE, Generation())
        assert _model(server).ask(_ONE, Generation()).text == '{"presence": 0}'
    assert caught.value.kind == "transient"


def test_nobody_there_is_transient() -> None:
    with ModelServer(_script()) as server:
        model = _model(server)
    with pytest.raises(AskError, match="APIConnectionError") as caught:
        model.ask(_ONE, Generation())
    assert caught.value.kind == "transient"


def test_a_run_gets_through_every_fault(prepared: Path, tmp_path: Path) -> None:
    faults = [
        Status(429, {"Retry-After": "0.01"}),
        Cut(),
        Garbage(b"<html>", "text/html"),
        Say('{"a": 1}'),
        Status(500),
        Cut(after=80),
        Garbage(b"{}"),
        Say('{"b": 2}'),
        Hang(),
    ]
    with ModelServer(_script(*faults)) as server:
        options: dict[str, Any] = {"patients": 1, "questions": [19, 60], "progress": False, "concurrency": 1}
        model = OpenAIModel("tiny", server.url, api_key=_KEY, timeout=1.0)
        summary = run(prepared, model, _GUIDED, tmp_path / "a.jsonl", retry=_WAITS, **options)
        asked = [seen.text for seen in server.seen]
    assert summary.failed == []
    assert summary.requests == len(asked) == summary.records + 7
    texts = [line["text"] for line in _lines(tmp_path / "a.jsonl")[1:]]
    assert texts[:2] == ['{"a": 1}', '{"b": 2}']
    assert len(texts) == summary.records
    # Only what failed was asked again, and in the same words.
    assert len(set(asked[:4])) == len(set(asked[4:8])) == 1
    assert summary.usage["completion_tokens"] == 7 * summary.records


def test_many_at_once_are_answered_once_each(prepared: Path, tmp_path: Path) -> None:
    def script(number: int, body: Mapping[str, Any]) -> Action:
        if number % 5 == 3:
            return Status(503)
        return Cut() if number % 7 == 4 else Say(f'{{"n": {number}}}')

    with ModelServer(script) as server:
        path = tmp_path / "a.jsonl"
        retry = Retry(attempts=20, first=0, most=0)
        summary = _run(server, prepared, path, questions=None, concurrency=6, retry=retry)
        assert server.most_at_once <= 6
    lines = _lines(path)[1:]
    assert len({line["id"] for line in lines}) == len(lines) == summary.records
    assert len({line["text"] for line in lines}) == len(lines)
    assert summary.requests == len(server.seen) > len(lines)


def test_everyone_waits_when_one_is_told_to(prepared: Path, tmp_path: Path) -> None:
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(clock=lambda: now[0], sleep=sleep)
    with ModelServer(_script(Status(429, {"Retry-After": "30"}))) as server:
        _run(server, prepared, tmp_path / "a.jsonl", pace=pace, concurrency=1)
    assert slept == [30.0]


def test_a_bad_key_ends_the_run_at_once(prepared: Path, tmp_path: Path) -> None:
    with ModelServer(lambda number, body: Status(401, message=f"Incorrect API key provided: {_KEY}")) as server:
        with pytest.raises(AskError, match=r"Incorrect API key provided: \[redacted\]") as caught:
            _run(server, prepared, tmp_path / "a.jsonl", concurrency=1)
        assert len(server.seen) <= 2
    assert _KEY not in str(caught.value)


def test_no_secret_reaches_the_journal(prepared: Path, tmp_path: Path) -> None:
    """The server says the key wherever it can: in answers, in errors, in garbage."""
    echoes = [
        Say(f"your key is {_KEY}", f"because of {_KEY}"),
        Status(400, message=f"bad request by {_KEY}"),
        Garbage(json.dumps({"choices": [], "key": _KEY}).encode()),
    ]
    with ModelServer(_script(*echoes)) as server:
        condition = replace(OWN_REGION, frames=_TINY, region_frames=_TINY)
        model = OpenAIModel("tiny", server.url.replace("//", "//user:pa55word@"), api_key=_KEY)
        summary = run(
            prepared,
            model,
            condition,
            tmp_path / "a.jsonl",
            patients=1,
            questions=[19, 60],
            retry=_WAITS,
            progress=False,
        )
        assert server.seen[0].headers["authorization"]
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"[redacted]" in written
    for secret in (_KEY, "pa55word"):
        assert secret.encode() not in written
        assert secret not in repr(model) + repr(summary)


def test_a_refusal_and_a_filter_are_told(prepared: Path, tmp_path: Path) -> None:
    with ModelServer(_script(Say(None, "content_filter"), Status(400, message="too many images"))) as server:
        summary = _run(server, prepared, tmp_path / "a.jsonl", concurrency=1)
    lines = {line["id"]: line for line in _lines(tmp_path / "a.jsonl")[1:]}
    assert [(line["text"], line["finish_reason"]) for line in lines.values() if line["finish_reason"] != "stop"] == [
        (None, "content_filter"),
        (None, None),
    ]
    assert summary.refused == 1
    assert sum("too many images" in (line["error"] or "") for line in lines.values()) == 1


def test_a_video_does_not_go_through_this_protocol(prepared: Path, tmp_path: Path) -> None:
    with ModelServer(_script()) as server:
        with pytest.raises(BenchError, match="model tiny must take frames as video, as the condition official gives"):
            _run(server, prepared, tmp_path / "a.jsonl", OFFICIAL)
        assert server.seen == []


def test_o1_is_asked_as_the_script_asks(prepared: Path, tmp_path: Path) -> None:
    condition = replace(OFFICIAL_O1, frames=replace(OFFICIAL_O1.frames, count=4, ends=(0, 7)))
    with ModelServer(_script()) as server:
        _run(server, prepared, tmp_path / "a.jsonl", condition)
    for seen in server.seen:
        assert set(seen.body) == {"model", "messages", "response_format"}
        assert seen.body["response_format"] == {"type": "json_object"}
        system, user = seen.body["messages"]
        assert system["content"].startswith("You are a radiologist. You are given a question and a set of knee MRI")
        assert [block["type"] for block in user["content"]] == ["text", *["image_url"] * 4]


def test_a_key_must_come_from_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(BenchError, match="OpenAI's endpoint must be given a key"):
        OpenAIModel("gpt")
    assert OpenAIModel("local", "http://127.0.0.1:1/v1").redact("none") == "none"
    monkeypatch.setenv("OPENAI_API_KEY", _KEY)
    assert OpenAIModel("gpt").redact(f"it is {_KEY}") == "it is [redacted]"
    with pytest.raises(BenchError, match="tokens_field must be max_tokens or max_completion_tokens, got tokens"):
        OpenAIModel("gpt", tokens_field="tokens")
