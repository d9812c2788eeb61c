"""`CallableModel`: any Python function as a model."""

from __future__ import annotations

from collections.abc import Callable

from reasonknee_datasets.bench.runner.replies import AskError, Generation, Reply
from reasonknee_datasets.bench.runner.requests import Request
from reasonknee_datasets.errors import explain


class CallableModel:
    """A function that is given a `Request` and gives the answer's text, or a `Reply`.

    Parameters
    ----------
    function : callable
        An `AskError` that it raises is treated as any endpoint's; other errors are its own faults, and end the run.
    name, revision : str, optional
        For the result's identity; the function's own name by default.
    concurrency : int, optional
        How many calls may run at once; 1 by default, since few functions expect more.

    Examples
    --------
    >>> model = CallableModel(lambda request: '{"presence": 0}', name="never")
    >>> model.ask(Request("a/q58", ()), Generation()).text
    '{"presence": 0}'
    """

    media = frozenset({"images", "video"})

    def __init__(
        self,
        function: Callable[[Request], str | Reply],
        name: str | None = None,
        revision: str | None = None,
        concurrency: int | None = 1,
    ) -> None:
        self.function, self.revision, self.concurrency = function, revision, concurrency
        self.name = str(name or getattr(function, "__qualname__", type(function).__name__))

    def ask(self, request: Request, generation: Generation) -> Reply:
        """Call the function."""
        del generation
        reply = self.function(request)
        if isinstance(reply, Reply):
            return reply
        if not isinstance(reply, str):
            remedy = "Give the answer's text, or a Reply"
            raise AskError(explain("a model's function", "give text", type(reply).__name__, remedy), "fatal")
        return Reply(reply, "stop")

    def redact(self, text: str) -> str:
        """Give the text as it is: a function has no secrets that this module knows of."""
        return text
