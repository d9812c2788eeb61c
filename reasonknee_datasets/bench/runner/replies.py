"""What comes back from a model: a `Reply`, or an `AskError` that says whether asking again may help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from reasonknee_datasets.bench.runner.requests import Request
from reasonknee_datasets.errors import BenchError, ReasonKneeError, explain

Kind = Literal["transient", "refused", "fatal"]


@dataclass(frozen=True, slots=True)
class Generation:
    """How a model is to write its answer; what is None is left to the model.

    Parameters
    ----------
    max_tokens : int or None
        Tokens of an answer at most.
    temperature : float or None
        0 takes the likeliest token.
    seed : int or None
        Sent to endpoints that take one.
    response_format : {"json_object"} or None
    reasoning_effort : str or None
        For models that take one: ``low``, ``medium``, ``high``.
    """

    max_tokens: int | None = 1024
    temperature: float | None = 0.0
    seed: int | None = None
    response_format: Literal["json_object"] | None = None
    reasoning_effort: str | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise BenchError(explain("max_tokens", "be at least 1", self.max_tokens, "Give None for the model's own"))
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise BenchError(explain("temperature", "be 0 to 2", self.temperature, "Give None for the model's own"))

    def to_json(self) -> dict[str, Any]:
        """Give what was set, for a result's identity."""
        names = ("max_tokens", "temperature", "seed", "response_format", "reasoning_effort")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model wrote.

    Attributes
    ----------
    text : str or None
        None where it wrote nothing, or a filter kept it back.
    finish_reason : str or None
        As the model gives it: ``stop``, ``length``, ``content_filter``.
    usage : mapping of str to int
        Tokens: ``prompt_tokens``, ``completion_tokens``, and ``cached_tokens`` and ``reasoning_tokens`` where known.
    served : str or None
        Which model the endpoint says that it was.
    """

    text: str | None
    finish_reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict, hash=False)
    served: str | None = None


class AskError(ReasonKneeError, RuntimeError):
    """A question that a model did not answer.

    Parameters
    ----------
    message : str
    kind : {"transient", "refused", "fatal"}
        Asking again may help; this request will never be answered; no request will be.
    retry_after : float, optional
        Seconds that the endpoint asks to be left alone.
    """

    def __init__(self, message: str, kind: Kind = "transient", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind, self.retry_after = kind, retry_after


@runtime_checkable
class Model(Protocol):
    """Whatever can be asked.

    Attributes
    ----------
    name : str
        For a result's identity.
    revision : str or None
    concurrency : int or None
        How many questions it can be asked at once; None for as many as the run likes.
    media : frozenset of str
        How it takes frames: ``images``, ``video``.
    """

    name: str
    revision: str | None
    concurrency: int | None
    media: frozenset[str]

    def ask(self, request: Request, generation: Generation) -> Reply:
        """Ask once.

        Raises
        ------
        AskError
            If there is no answer.
        """
        ...

    def redact(self, text: str) -> str:
        """Take out of a text what nobody may read."""
        ...
