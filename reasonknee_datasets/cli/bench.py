"""The commands that ask models, score answers and compare results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from reasonknee_datasets.cli.arguments import Command, positive

if TYPE_CHECKING:
    from reasonknee_datasets.bench.evaluation import Evaluation, Reading
    from reasonknee_datasets.bench.predictions import Problem
    from reasonknee_datasets.bench.runner import Model, Reply, Request


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        metavar="DIR",
        help="a prepared repository: a folder or URL (default: REASONKNEE_DATA, ./3dreasonknee)",
    )


def _add_reading(command: argparse.ArgumentParser) -> None:
    _add_data(command)
    command.add_argument("--split", help="whole (default: what the predictions state, else test)")
    command.add_argument("--questions", type=_numbers, metavar="N,N-N", help="score these alone, such as 1-15,34")
    command.add_argument("--box-convention", metavar="NAME", help="of the answered boxes, where none is stated")
    command.add_argument(
        "--no-strict", action="store_true", help="go on in spite of problems with the predictions, and count them"
    )
    command.add_argument(
        "--resamples", type=int, default=2000, help="of patients, for intervals (default: %(default)s)"
    )
    command.add_argument("--seed", type=int, default=0, help="of the resamples (default: %(default)s)")


def _reading(arguments: argparse.Namespace) -> Reading:
    from reasonknee_datasets.bench.evaluation import Reading

    return Reading(
        split=arguments.split,
        questions=arguments.questions,
        convention=arguments.box_convention,
        strict=not arguments.no_strict,
    )


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--predictions", type=Path, required=True, metavar="FILE", help="JSON lines, or a result file of the authors'"
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for the report")
    command.add_argument("--model", help="its name, where the predictions do not state it")
    command.add_argument("--condition", help="such as region_given, where the predictions do not state it")
    command.add_argument("--pictures", type=int, default=6, help="of worst cases; 0 for none (default: %(default)s)")
    command.add_argument("--volumes", metavar="DIR", help="what holds volumes/, for the pictures, if not --data")
    _add_reading(command)


def _evaluate(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.bench.evaluation import evaluate
    from reasonknee_datasets.bench.report import check_report, write_report

    check_report(arguments.out)
    done = evaluate(
        arguments.predictions,
        arguments.data,
        reading=_reading(arguments),
        model=arguments.model,
        condition=arguments.condition,
        resamples=arguments.resamples,
        seed=arguments.seed,
    )
    written = write_report(done, arguments.out, pictures=arguments.pictures, volumes_dir=arguments.volumes)
    _tell(done.problems)
    for line in done.results.warnings:
        print(f"warning: {line}", file=sys.stderr)
    print(done.summary())
    for path in written:
        print(path)


def _tell(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        print(f"note: {problem}", file=sys.stderr)


def _add_bench(command: argparse.ArgumentParser) -> None:
    jobs = command.add_subparsers(metavar="JOB", required=True)
    for name, (add, run, summary) in _JOBS.items():
        job = jobs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        add(job)
        job.set_defaults(job=run)


def _bench(arguments: argparse.Namespace) -> int | None:
    job: Callable[[argparse.Namespace], int | None] = arguments.job
    return job(arguments)


def _add_run(command: argparse.ArgumentParser) -> None:
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
    command.add_argument("--condition", default="zero_shot", help="how it is asked (default: %(default)s)")
    command.add_argument("--journal", type=Path, required=True, metavar="FILE", help="takes the answers; gone on with")
    _add_data(command)
    command.add_argument("--volumes", metavar="DIR", help="what holds volumes/, if not --data")
    command.add_argument("--split", default="test", help="whole (default: %(default)s)")
    command.add_argument("--patients", type=positive, metavar="N", help="a seeded sample of so many whole patients")
    command.add_argument("--questions", type=_numbers, metavar="N,N-N", help="only these, such as 1-15,34")
    command.add_argument("--prompts", metavar="DIR", help="the official question files; or rows, or project")
    command.add_argument("--damaged", choices=("repair", "leave_out", "keep"), help="what to do with prompts 58 and 59")
    command.add_argument("--seed", type=int, default=0, help="of the sample and of jitter (default: %(default)s)")
    command.add_argument("--max-tokens", type=positive, help="of an answer (default: 1024)")
    command.add_argument("--temperature", type=float, help="0 takes the likeliest token (default: 0)")
    command.add_argument("--concurrency", type=positive, default=8, help="questions at once (default: %(default)s)")
    command.add_argument("--requests-per-minute", type=float, help="what the endpoint allows")
    command.add_argument("--tokens-per-minute", type=float, help="what the endpoint allows")
    command.add_argument("--price", type=_price, metavar="IN,OUT[,CACHED]", help="dollars a million tokens")
    command.add_argument("--attempts", type=positive, default=6, help="for each question (default: %(default)s)")
    command.add_argument("--dry-run", action="store_true", help="print requests, images and tokens; ask nothing")


def _run(arguments: argparse.Namespace) -> int:
    from reasonknee_datasets.bench.runner import Generation, Pace, Retry, dry_run, run

    asked = {"max_tokens": arguments.max_tokens, "temperature": arguments.temperature}
    given = {name: value for name, value in asked.items() if value is not None}
    generation = Generation(**given) if given else None
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
        plan = dry_run(
            arguments.data, arguments.condition, journal, generation=generation, price=arguments.price, **study
        )
        print(plan)
        return 0
    summary = run(
        arguments.data,
        _model(arguments),
        arguments.condition,
        arguments.journal,
        generation=generation,
        concurrency=arguments.concurrency,
        retry=Retry(attempts=arguments.attempts),
        pace=Pace(arguments.requests_per_minute, arguments.tokens_per_minute),
        price=arguments.price,
        **study,
    )
    print(summary)
    return 1 if summary.failed else 0


def _model(arguments: argparse.Namespace) -> Model:
    from reasonknee_datasets.bench.runner import CallableModel, OpenAIModel, TransformersModel

    if arguments.via == "transformers":
        return TransformersModel(arguments.model, arguments.revision)
    if arguments.via == "callable":
        return CallableModel(_import(arguments.model), arguments.model, arguments.revision)
    return OpenAIModel(arguments.model, arguments.base_url, revision=arguments.revision)


def _import(place: str) -> Callable[[Request], str | Reply]:
    """Find MODULE:NAME, in the current folder too, as ``python -m`` would."""
    from reasonknee_datasets.errors import BenchError, explain

    module, _, name = place.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Callable[[Request], str | Reply] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        remedy = "Write MODULE:NAME of a function that takes a Request and gives the answer's text"
        raise BenchError(explain("a callable model", "be importable", f"{place} ({error})", remedy)) from error
    return found


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("first", metavar="A", type=Path, help="a report's folder, or predictions")
    command.add_argument("second", metavar="B", type=Path, help="what is subtracted from it")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for the comparison")
    command.add_argument(
        "--allow", metavar="FIELD", action="append", default=[], help="go on although they differ in this; repeatable"
    )
    _add_reading(command)


def _compare(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.bench.evaluation import compare
    from reasonknee_datasets.bench.report import write_comparison

    first, second = _read(arguments, arguments.first), _read(arguments, arguments.second)
    compared = compare(first, second, allow=arguments.allow, resamples=arguments.resamples, seed=arguments.seed)
    for path in write_comparison(compared, arguments.out):
        print(path)


def _read(arguments: argparse.Namespace, path: Path) -> Evaluation:
    if path.is_dir():
        from reasonknee_datasets.bench.report import read_report

        return read_report(path, arguments.data)
    from reasonknee_datasets.bench.evaluation import evaluate

    return evaluate(path, arguments.data, reading=_reading(arguments), resamples=0)


def _numbers(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            found += range(int(first), int(last or first) + 1)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be numbers such as 1-15,34, got {text!r}") from error
    return tuple(found)


def _price(text: str) -> object:
    from reasonknee_datasets.bench.runner import Price

    try:
        return Price(*(float(part) for part in text.split(",")))
    except (TypeError, ValueError) as error:
        message = f"must be two or three numbers such as 2.5,10 (dollars a million tokens in, out), got {text!r}"
        raise argparse.ArgumentTypeError(message) from error


_JOBS: dict[str, Command] = {
    "run": (_add_run, _run, "ask a model, into a journal that a killed run goes on with"),
    "compare": (_add_compare, _compare, "subtract one model's results from another's, patient by patient"),
}

COMMANDS: dict[str, Command] = {
    "evaluate": (_add_evaluate, _evaluate, "score predictions, with intervals and baselines beside every number"),
    "bench": (_add_bench, _bench, "ask models (run), compare two (compare)"),
}
