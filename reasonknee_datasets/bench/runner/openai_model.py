"""`OpenAIModel`: any endpoint that speaks the protocol of OpenAI's chat completions."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any

from reasonknee_datasets.bench.runner.replies import AskError, Generation, Kind, Reply
from reasonknee_datasets.bench.runner.requests import Frames, Request
from reasonknee_datasets.errors import BenchError, explain, missing_extra

HIDDEN = "[redacted]"
# Whoever asks wrongly here would do so with every question.
_FATAL = frozenset({401, 403, 404, 405})
_TRANSIENT = frozenset({408, 409, 425, 429})


def to_chat(request: Request) -> list[dict[str, Any]]:
    """Write a request as the messages of a chat completion; each frame is a PNG in a data URL.

    Examples
    --------
    >>> from reasonknee_datasets.bench.runner.requests import Message
    >>> to_chat(Request("a", (Message("user", ("Any tear?",)),)))
    [{'role': 'user', 'content': 'Any tear?'}]
    """
    chat: list[dict[str, Any]] = []
    for message in request.messages:
        blocks: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, Frames):
                blocks += [{"type": "image_url", "image_url": {"url": url}} for url in part.data_urls]
            else:
                blocks.append({"type": "text", "text": part})
        # Some servers take nothing but text for other roles than the user's, and text alone as a string.
        plain = len(blocks) == 1 and blocks[0]["type"] == "text"
        chat.append({"role": message.role, "content": blocks[0]["text"] if plain else blocks})
    return chat


class OpenAIModel:
    """A model behind an endpoint, through the ``openai`` client.

    Parameters
    ----------
    model : str
        The name that the endpoint knows it by.
    base_url : str, optional
        ``http://127.0.0.1:8000/v1``; OpenAI's own by default.
    api_key : str, optional
        ``OPENAI_API_KEY`` by default; local servers take any. It is sent to the endpoint and stands nowhere else: it is
        taken out of whatever the endpoint says back.
    revision : str, optional
        For the result's identity, where the name does not say it.
    timeout : float
        Seconds without an answer.
    tokens_field : {"max_tokens", "max_completion_tokens"}
        What the endpoint calls the limit; OpenAI's reasoning models take the second only.
    extra : mapping, optional
        More fields of the request's body.

    Raises
    ------
    MissingExtraError
        Where ``openai`` is not installed.
    """

    media = frozenset({"images"})
    concurrency: int | None = None

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        revision: str | None = None,
        timeout: float = 300.0,
        tokens_field: str = "max_tokens",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        openai = _client_library()
        if tokens_field not in ("max_tokens", "max_completion_tokens"):
            remedy = "Choose one of these"
            raise BenchError(explain("tokens_field", "be max_tokens or max_completion_tokens", tokens_field, remedy))
        key = api_key or os.environ.get("OPENAI_API_KEY") or ("none" if base_url else None)
        if key is None:
            remedy = "Set OPENAI_API_KEY, or name another endpoint with base_url= (--base-url)"
            raise BenchError(explain("OpenAI's endpoint", "be given a key", "none", remedy))
        self.name, self.revision, self.extra = model, revision, dict(extra or {})
        self._tokens_field = tokens_field
        self._secrets = tuple(filter(None, (key if key != "none" else "", *_find_secrets(base_url))))
        # Its own retries would neither be counted nor wait for the other threads' Retry-After.
        self._client = openai.OpenAI(base_url=base_url, api_key=key, timeout=timeout, max_retries=0)

    def __repr__(self) -> str:
        return f"OpenAIModel({self.name!r}, {self.redact(str(self._client.base_url))!r})"

    def redact(self, text: str) -> str:
        """Take the key, and a password in the address, out of a text."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def ask(self, request: Request, generation: Generation) -> Reply:
        """Ask once."""
        openai = _client_library()
        body = self._body(generation)
        try:
            completion = self._client.chat.completions.create(model=self.name, messages=to_chat(request), **body)
        except openai.APIStatusError as error:
            raise AskError(self._say(error), *_judge(error.status_code, error.response.headers)) from error
        except openai.APIError as error:  # no connection, a timeout, a connection cut short
            raise AskError(self._say(error)) from error
        except (ValueError, TypeError, AttributeError, KeyError) as error:  # the client reads garbage as it may
            raise AskError(self._say(error)) from error
        return self._read(completion)

    def _body(self, generation: Generation) -> dict[str, Any]:
        fields: dict[str, Any] = {"temperature": generation.temperature, "seed": generation.seed}
        if generation.response_format is not None:
            fields["response_format"] = {"type": generation.response_format}
        # Older clients do not know these by name, and take them here.
        extra = {self._tokens_field: generation.max_tokens, "reasoning_effort": generation.reasoning_effort}
        body = {name: value for name, value in fields.items() if value is not None}
        return body | {"extra_body": {name: value for name, value in extra.items() if value is not None} | self.extra}

    def _read(self, completion: Any) -> Reply:
        try:
            choice = completion.choices[0]
            message = choice.message
            text = message.content if message.content is not None else getattr(message, "refusal", None)
            usage = _read_usage(completion.usage)
        except (AttributeError, IndexError, TypeError, KeyError) as error:
            got = self.redact(repr(completion))[:200]
            remedy = "Check that the address ends in /v1 and speaks chat completions"
            raise AskError(explain("an answer", "be a chat completion", got, remedy)) from error
        if text is not None and not isinstance(text, str):
            got = self.redact(repr(text))[:200]
            raise AskError(explain("an answer", "be text", got, "Ask a model that writes text"))
        reason, served = (
            self.redact(word) if isinstance(word, str) else None
            for word in (choice.finish_reason, getattr(completion, "model", None))
        )
        return Reply(None if text is None else self.redact(text), reason, usage, served)

    def _say(self, error: BaseException) -> str:
        return self.redact(f"{type(error).__name__}: {error}")[:500]


def _client_library() -> Any:
    try:
        return import_module("openai")
    except ImportError as error:
        raise missing_extra("openai", "bench", "OpenAIModel") from error


def _judge(status: int, headers: Mapping[str, str]) -> tuple[Kind, float | None]:
    if status in _FATAL:
        return "fatal", None
    if status in _TRANSIENT or status >= 500:
        return "transient", read_retry_after(headers)
    return "refused", None


def read_retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Read how many seconds an endpoint asks to be left alone: a number, or a date.

    Examples
    --------
    >>> read_retry_after({"retry-after": "2"}), read_retry_after({"retry-after-ms": "1500"}), read_retry_after({})
    (2.0, 1.5, None)
    >>> read_retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, now=50.0)
    10.0
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", milliseconds):
        return float(milliseconds) / 1000
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - (time.time() if now is None else now))
    except (TypeError, ValueError):
        return None


def _read_usage(usage: Any) -> dict[str, int]:
    """Read the counts of tokens that an endpoint gives."""
    places = {
        "prompt_tokens": (usage, "prompt_tokens"),
        "completion_tokens": (usage, "completion_tokens"),
        "cached_tokens": (getattr(usage, "prompt_tokens_details", None), "cached_tokens"),
        "reasoning_tokens": (getattr(usage, "completion_tokens_details", None), "reasoning_tokens"),
    }
    found = {name: getattr(holder, key, None) for name, (holder, key) in places.items()}
    return {name: value for name, value in found.items() if isinstance(value, int) and not isinstance(value, bool)}


def _find_secrets(base_url: str | None) -> list[str]:
    """Find the password in an address."""
    match = re.match(r"[a-z]+://[^/@:]*:([^/@]+)@", base_url or "")
    return [match[1]] if match else []
