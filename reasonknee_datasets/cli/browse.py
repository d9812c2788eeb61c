"""The command that shows a prepared repository in a web browser."""

from __future__ import annotations

import argparse

from reasonknee_datasets.cli.arguments import Command, local, say


def _port(text: str) -> int:
    if not text.strip().isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, not {text}")
    return int(text)


def _add_browse(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "dir", metavar="DIR", nargs="?", help="a prepared repository (default: REASONKNEE_DATA, ./3dreasonknee)"
    )
    command.add_argument(
        "--predictions", type=local, metavar="FILE", help="JSON lines or an .eval log, shown worst first"
    )
    command.add_argument("--volumes-dir", metavar="DIR", help="the folder with volumes/, if not the repository")
    command.add_argument("--port", type=_port, help="default: 8317, or a free one where that is taken")
    command.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)"
    )
    command.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a host name in the address bar besides localhost; all others are refused; repeatable",
    )
    command.add_argument(
        "--embed-in",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="a site that may show the pages in a frame, such as https://huggingface.co; repeatable",
    )
    command.add_argument("--open", action="store_true", help="open the page in the default web browser")


def _browse(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.browse import build_app, run_browser

    app = build_app(
        arguments.dir,
        volumes_dir=arguments.volumes_dir,
        predictions=arguments.predictions,
        hosts=[*arguments.allow_host, *([arguments.host] if arguments.host not in ("0.0.0.0", "::") else [])],
        embed_in=arguments.embed_in,
    )
    run_browser(app, host=arguments.host, port=arguments.port, open_page=arguments.open, say=say)


COMMANDS: dict[str, Command] = {
    "browse": (_add_browse, _browse, "show rows, volumes and boxes in a web browser, on this machine only"),
}
