"""Calls of the Hub through huggingface_hub, repeated on temporary faults, with errors that contain no token."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from reasonknee_datasets.errors import PublishError, ReasonKneeError
from reasonknee_datasets.volumes.credentials import redact_text
from reasonknee_datasets.volumes.filesystems import store_errors

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

WAITS: Sequence[float] = (1, 4, 15, 60)  # seconds before a call is repeated
# Of httpx, requests, urllib3 and Python: no connection was made, so that no server has failed.
_UNREACHABLE = {"ConnectError", "ConnectTimeout", "ProxyError", "gaierror", "ConnectionRefusedError"}
_TEMPORARY = {"TransportError", "ConnectionError", "TimeoutError"}


def open_hub(token: bool | str | None) -> HfApi:
    """Return the client of the Hub that ``HF_ENDPOINT`` names."""
    from huggingface_hub import HfApi

    return HfApi(token=token, library_name="reasonknee_datasets")


def call_hub(function: Callable[..., T], *arguments: Any, doing: str, first: bool = False, **options: Any) -> T:
    """Call the Hub; repeat the call on server errors and lost connections.

    Offline mode (``HF_HUB_OFFLINE``) is never repeated, and neither is a Hub that no call has reached yet.

    Parameters
    ----------
    function : callable
        A method of HfApi. It may run twice, so it must do no harm the second time.
    doing : str
        Description of the call, for messages: "uploading volumes to owner/name".
    first : bool
        Whether this is the first call of a command: no connection at all is an error at once then.

    Raises
    ------
    PublishError
        If the Hub refuses, or fails each time. Of the error only its text is kept, without URLs that carry secrets.
    """

    def failures() -> tuple[type[Exception], ...]:
        return (RuntimeError, *store_errors())  # known once huggingface_hub is imported

    for wait in (*WAITS, None):
        try:
            return function(*arguments, **options)
        except ReasonKneeError:
            raise
        except failures() as error:
            if wait is None or not _passes(error) or (first and _kinds(error) & _UNREACHABLE):
                raise _explain(error, doing) from None
            time.sleep(wait)
    raise AssertionError("the last round returns or raises")


def _passes(error: BaseException) -> bool:
    """Check whether an error is one that may be gone the next time."""
    if "OfflineModeIsEnabled" in _kinds(error):
        return False
    status = _status(error)
    if status is not None:
        return status >= 500 or status in {408, 409, 412, 429}
    return bool(_kinds(error) & _TEMPORARY)


def _kinds(error: BaseException) -> set[str]:
    """Return the names of the classes of an error and of its causes."""
    return {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}


def _status(error: BaseException) -> int | None:
    """Return the HTTP status behind an error, None where there is none."""
    for each in _chain(error):
        status = getattr(getattr(each, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in found:
        found.append(at)
        at = at.__cause__ or at.__context__
    return found


def _endpoint() -> str:
    from huggingface_hub import constants

    return redact_text(constants.ENDPOINT)


def _explain(error: Exception, doing: str) -> PublishError:
    status, kinds = _status(error), _kinds(error)
    text = redact_text(" ".join(str(error).split())).rstrip(".")[:500]
    if "OfflineModeIsEnabled" in kinds:
        return PublishError(f"Failed while {doing}: HF_HUB_OFFLINE is set, so that the Hub is not called. Unset it.")
    if kinds & _UNREACHABLE:
        return PublishError(
            f"The Hub at {_endpoint()} cannot be reached ({text}), so {doing} failed. Check the network connection, "
            "and HF_ENDPOINT and HTTPS_PROXY if they are set; then run the same command again."
        )
    remedy = {
        401: "Log in with `hf auth login`, or set HF_TOKEN to a token that may write there.",
        403: "The token may not do that: use one with the right permissions, or ask for access on the page.",
        404: "Check the name, and that the token may read the repository.",
    }.get(status or 0, "Run the same command again: what is done already is skipped.")
    return PublishError(f"The Hub failed while {doing}: {text or type(error).__name__}. {remedy}")
