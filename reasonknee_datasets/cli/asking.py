"""`reasonknee bench run`: asking a model."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonknee_datasets.cli.arguments import add_data, numbers, positive
from reasonknee_datasets.errors import BenchError, explain

if TYPE_CHECKING:
    from reasonknee_datasets.bench.conditions import Condition
    from reasonknee_datasets.bench.runner import Model, Reply, Request


_OF_ONE_KIND = {"base_url": "endpoint", "tokens_field": "endpoint", "timeout": "endpoint", "device": "transformers"}


def add_run(command: argparse.ArgumentParser) -> None:
    """Ask for what a run is made of: the model, what it is asked about, how, and how fast."""
    command.add_argument(
        "--model", required=True, help="a name that the endpoint knows, a Hub id or folder, or MODULE:NAME"
    )
    command.add_argument(
        "--via",
        choices=("endpoint", "transformers", "callable"),
        default="endpoint",
        help="an OpenAI-compatible endpoint, a local model, or a Python function (default: %(default)s)",
    )
    command.add_argument("--base-url", metavar="URL", help="of the endpoint; its key comes from OPENAI_API_KEY")
    command.add_argument("--revision", help="of the model")
    command.add_argument("--device", help="of a local model: cpu, cuda, or auto (default: auto)")
    command.add_argument("--journal", type=Path, required=True, metavar="FILE", help="takes the answers; gone on with")
    _add_asked(command)
    _add_generation(command)
    _add_pace(command)
    command.add_argument("--dry-run", action="store_true", help="print requests, images and tokens; ask nothing")


def _add_asked(command: argparse.ArgumentParser) -> None:
    asked = command.add_argument_group("what is asked, of which records")
    asked.add_argument("--condition", default="zero_shot", help="how it is asked (default: %(default)s)")
    add_data(asked)
    asked.add_argument("--volumes", metavar="DIR", help="what holds volumes/, if not --data")
    asked.add_argument("--split", default="test", help="whole (default: %(default)s)")
    asked.add_argument("--patients", type=positive, metavar="N", help="a seeded sample of so many whole patients")
    asked.add_argument("--questions", type=numbers, metavar="N,N-N", help="only these, such as 1-15,34")
    asked.add_argument("--prompts", metavar="DIR", help="the official question files; or rows, or project")
    asked.add_argument("--damaged", choices=("repair", "leave_out", "keep"), help="what to do with prompts 58 and 59")
    asked.add_argument("--seed", type=int, default=0, help="of the sample and of jitter (default: %(default)s)")
    asked.add_argument(
        "--frames", type=positive, metavar="N", help="of a knee, and of a crop (default: 32, and 16 of a crop)"
    )
    asked.add_argument(
        "--size", type=positive, metavar="PX", help="a frame's longer side (default: as the voxels are; 336 of a crop)"
    )


def _add_generation(command: argparse.ArgumentParser) -> None:
    how = command.add_argument_group("how the model writes")
    how.add_argument("--max-tokens", type=positive, help="of an answer (default: 1024)")
    how.add_argument("--temperature", type=float, help="0 takes the likeliest token (default: 0)")
    how.add_argument("--reasoning-effort", metavar="WORD", help="such as low, for endpoints that take one")
    how.add_argument("--response-format", choices=("json_object",), help="for endpoints that take one")
    how.add_argument(
        "--tokens-field",
        choices=("max_tokens", "max_completion_tokens"),
        help="what the endpoint calls --max-tokens (default: max_tokens)",
    )


def _add_pace(command: argparse.ArgumentParser) -> None:
    pace = command.add_argument_group("how fast, and what then")
    pace.add_argument("--concurrency", type=positive, default=8, help="questions at once (default: %(default)s)")
    pace.add_argument("--requests-per-minute", type=float, help="what the endpoint allows")
    pace.add_argument("--tokens-per-minute", type=float, help="what the endpoint allows")
    pace.add_argument("--price", type=_price, metavar="IN,OUT[,CACHED]", help="dollars a million tokens")
    pace.add_argument("--timeout", type=_seconds, metavar="S", help="seconds without an answer (default: 300)")
    pace.add_argument("--attempts", type=positive, default=6, help="for each question (default: %(default)s)")
    pace.add_argument(
        "--on-failure",
        choices=("leave", "record"),
        default="leave",
        help="a record without an answer is left to the next run, or recorded as failed (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask, or tell what would be asked."""
    from reasonknee_datasets.bench import runner

    _check(arguments)
    names = ("max_tokens", "temperature", "reasoning_effort", "response_format")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    generation = runner.Generation(**given) if given else None
    condition = _condition(arguments)
    study = {
        "split": arguments.split,
        "prompts": arguments.prompts,
        "damaged": arguments.damaged,
        "patients": arguments.patients,
        "questions": arguments.questions,
        "seed": arguments.seed,
        "volumes_dir": arguments.volumes,
    }
    if arguments.dry_run:
        journal = arguments.journal if arguments.journal.exists() else None
        plan = runner.dry_run(arguments.data, condition, journal, generation=generation, price=arguments.price, **study)
        print(plan)
        return 0
    summary = runner.run(
        arguments.data,
        _model(arguments),
        condition,
        arguments.journal,
        generation=generation,
        concurrency=arguments.concurrency,
        retry=runner.Retry(attempts=arguments.attempts),
        pace=runner.Pace(arguments.requests_per_minute, arguments.tokens_per_minute),
        price=arguments.price,
        on_failure=arguments.on_failure,
        **study,
    )
    print(summary)
    return 1 if summary.failed else 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that this kind of model would pass over."""
    for name, kind in _OF_ONE_KIND.items():
        if getattr(arguments, name) is not None and arguments.via != kind:
            option = f"--{name.replace('_', '-')}"
            remedy = f"Leave it out, or give --via {kind}"
            raise BenchError(explain(option, f"go with --via {kind}", f"--via {arguments.via}", remedy))


def _condition(arguments: argparse.Namespace) -> Condition:
    """Give the condition, with as many and as large frames as are wanted of the knee and of crops."""
    from reasonknee_datasets.bench.conditions import get_condition

    condition = get_condition(arguments.condition)
    wanted = {"count": arguments.frames, "size": arguments.size}
    changes: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    if not changes:
        return condition
    if condition.script is not None:
        remedy = "Leave them out, or ask with the clean condition guided"
        raise BenchError(explain("an official condition", "show what the script shows", "--frames or --size", remedy))
    return replace(
        condition,
        frames=replace(condition.frames, **changes),
        region_frames=replace(condition.region_frames, **changes),
    )


def _model(arguments: argparse.Namespace) -> Model:
    from reasonknee_datasets.bench.runner import CallableModel, OpenAIModel, TransformersModel

    if arguments.via == "transformers":
        return TransformersModel(arguments.model, arguments.revision, device=arguments.device or "auto")
    if arguments.via == "callable":
        return CallableModel(_import(arguments.model), arguments.model, arguments.revision)
    given = {name: getattr(arguments, name) for name in ("tokens_field", "timeout")}
    options = {name: value for name, value in given.items() if value is not None}
    return OpenAIModel(arguments.model, arguments.base_url, revision=arguments.revision, **options)


def _import(place: str) -> Callable[[Request], str | Reply]:
    """Find MODULE:NAME, in the current folder too, as ``python -m`` would."""
    module, _, name = place.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Callable[[Request], str | Reply] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        remedy = "Write MODULE:NAME of a function that takes a Request and gives the answer's text"
        raise BenchError(explain("a callable model", "be importable", f"{place} ({error})", remedy)) from error
    return found


def _price(text: str) -> object:
    from reasonknee_datasets.bench.runner import Price

    try:
        return Price(*(float(part) for part in text.split(",")))
    except (TypeError, ValueError) as error:
        message = f"must be two or three numbers such as 2.5,10 (dollars a million tokens in, out), got {text!r}"
        raise argparse.ArgumentTypeError(message) from error


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be seconds above 0, got {text!r}")
    return number
