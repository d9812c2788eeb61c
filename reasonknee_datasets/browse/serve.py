"""Run the browser's server."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reasonknee_datasets.browse.niivue_bundle import BrowserError, niivue_module
from reasonknee_datasets.errors import missing_extra
from reasonknee_datasets.safe_paths import is_url
from reasonknee_datasets.sources import find_place, find_repository, find_volumes, name_setting

PORT = 8317


def check_browser() -> None:
    """Check that the extra ``app`` is installed.

    Raises
    ------
    MissingExtraError
        If a package of it is missing; the message names it.
    """
    for module in ("starlette", "uvicorn", "jinja2"):
        if find_spec(module) is None:
            raise missing_extra(module, "app", "reasonknee browse")
    niivue_module()


def build_app(
    data_dir: str | None,
    *,
    volumes_dir: str | None = None,
    predictions: Path | None = None,
    hosts: Iterable[str] = (),
    embed_in: Iterable[str] = (),
) -> Any:
    """Build the browser of a prepared repository as an ASGI application.

    Parameters
    ----------
    data_dir : str or None
        The folder of a prepared repository; by default REASONKNEE_DATA, then ``./3dreasonknee``.
    volumes_dir : str, optional
        The folder that contains ``volumes/``, if not the repository.
    predictions : Path, optional
        JSON lines or a log of inspect_ai, shown with the truth.
    hosts, embed_in : iterable of str
        As for `reasonknee_datasets.browse.browser_app.make_browser_app`.

    Raises
    ------
    MissingExtraError
        If the extra ``app`` is not installed.
    BrowserError
        If the repository is not a local folder.
    RepositoryError
        If it is not a sound one.
    """
    check_browser()
    from reasonknee_datasets.browse.browser_app import Browser, make_browser_app
    from reasonknee_datasets.browse.row_index import RowIndex

    repository = find_repository(find_place(data_dir), setting=name_setting(data_dir))
    volumes = find_volumes(volumes_dir, repository.root)
    for place in (repository.root, volumes):
        if is_url(place):
            raise BrowserError(
                f"{place} is a URL, and the browser reads local folders. Copy the repository to a folder, and name "
                "that; from the Hub: hf download owner/name --repo-type dataset --local-dir FOLDER."
            )
    index = RowIndex(repository)
    shown = None
    if predictions is not None:
        from reasonknee_datasets.browse.prediction_index import load_prediction_index

        shown = load_prediction_index(predictions, index)
    return make_browser_app(Browser(index, Path(volumes), shown), hosts=hosts, embed_in=embed_in)


def run_browser(
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    page: str = "/",
    open_page: bool = False,
    say: Callable[[str], None],
) -> None:
    """Serve an application until it is interrupted.

    Parameters
    ----------
    app : ASGI application
        As `build_app` returns it.
    host : str
        Address to listen on; the loopback by default.
    port : int, optional
        By default 8317, or any free one where that is taken.
    page : str
        The path of the first page.
    open_page : bool
        Open it in the default web browser.
    say : callable
        Receives the address, once the server listens.

    Raises
    ------
    BrowserError
        If it cannot listen there.
    """
    import uvicorn

    listener = _listen(host, port)
    address = f"http://{_in_url(host)}:{listener.getsockname()[1]}{page}"
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
    say(f"{address}  (stop with Ctrl+C)")
    if open_page:
        webbrowser.open(address)  # the socket listens already, so that a quick request waits
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()


def _listen(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in (PORT, 0) if port is None else (port,):
        listener = socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, number))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if number == PORT and port is None:
                continue
            raise BrowserError(
                f"The browser cannot listen on {host}:{number}: {error.strerror or error}. Choose another --port."
            ) from error
        return listener
    raise AssertionError("unreachable")


def _in_url(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # all addresses: this machine reaches it by the loopback
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
