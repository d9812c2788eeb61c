"""The commands that plan a run, score answers and compare results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from reasonknee_datasets.cli.arguments import Command, add_data, numbers, positive
from reasonknee_datasets.moaks import ATTRIBUTES, QUESTIONS

if TYPE_CHECKING:
    from reasonknee_datasets.bench.evaluation import Evaluation, ReadOptions


def _add_reading(command: argparse.ArgumentParser) -> None:
    add_data(command)
    command.add_argument("--split", help="a whole split (default: as the predictions state, else test)")
    _add_questions(command, "score these questions alone")
    command.add_argument(
        "--attributes", metavar="NAME,NAME", help=f"score these attributes alone: {', '.join(ATTRIBUTES)}"
    )
    command.add_argument(
        "--box-convention",
        metavar="NAME",
        help="convention of the answered boxes where the predictions state none, such as slice0-x1-y2 "
        "(all names: docs/reference/names.md)",
    )
    command.add_argument(
        "--no-strict", action="store_true", help="continue in spite of problems with the predictions, and count them"
    )
    command.add_argument("--resamples", type=int, default=2000, metavar="N", help="resamples (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="resampling seed (default: %(default)s)")


def _add_questions(command: argparse.ArgumentParser, purpose: str) -> None:
    asked = [question for question in QUESTIONS.values() if question.in_records]
    ranges = []
    for category, found in groupby(asked, lambda question: question.category):
        first, *more = (question.id for question in found)
        ranges.append(f"{category} {first}-{more[-1]}" if more else f"{category} {first}")
    told = f"{purpose}, such as 1-15,34. Categories: {'; '.join(ranges)}"
    command.add_argument("--questions", type=numbers, metavar="N,N-N", help=told)


def _add_out(command: argparse.ArgumentParser, content: str) -> None:
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"a new folder for {content}")
    command.add_argument("--overwrite", action="store_true", help="replace an earlier one in that folder")


def _reading(arguments: argparse.Namespace) -> ReadOptions:
    from reasonknee_datasets.bench.evaluation import ReadOptions

    return ReadOptions(
        split=arguments.split,
        questions=arguments.questions,
        attributes=None if arguments.attributes is None else tuple(arguments.attributes.split(",")),
        convention=arguments.box_convention,
        strict=not arguments.no_strict,
    )


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--predictions",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="logs of inspect eval (.eval), JSON lines, or a result file of the authors' scripts",
    )
    _add_out(command, "the report")
    command.add_argument("--model", help="name of the model, where the predictions do not state it")
    command.add_argument("--condition", help="condition, such as region_given, where the predictions do not state it")
    command.add_argument(
        "--controls",
        type=Path,
        nargs="+",
        default=[],
        metavar="LOG",
        help="runs of the same model in text_only or shuffled_image, reported among the baselines",
    )
    command.add_argument("--pictures", type=int, default=6, metavar="N", help="worst cases (default: %(default)s)")
    command.add_argument("--volumes", metavar="DIR", help="folder with volumes/ for the pictures (default: --data)")
    command.add_argument("--agreement", action="store_true", help="compare the reasoning with the reference by ROUGE-L")
    _add_reading(command)


def _evaluate(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.bench.evaluation import evaluate
    from reasonknee_datasets.bench.report import check_report, write_report

    check_report(arguments.out, overwrite=arguments.overwrite)
    done = evaluate(
        arguments.predictions,
        arguments.data,
        options=replace(_reading(arguments), agreement=arguments.agreement),
        model=arguments.model,
        condition=arguments.condition,
        controls=arguments.controls,
        resamples=arguments.resamples,
        seed=arguments.seed,
    )
    chosen = {"pictures": arguments.pictures, "volumes_dir": arguments.volumes, "overwrite": arguments.overwrite}
    written = write_report(done, arguments.out, **chosen)
    for problem in done.problems:
        print(f"note: {problem}", file=sys.stderr)
    for line in done.results.warnings:
        print(f"warning: {line}", file=sys.stderr)
    print(done.summary())
    for path in written:
        print(path)


def _add_bench(command: argparse.ArgumentParser) -> None:
    _explain_run(command)
    jobs = command.add_subparsers(metavar="JOB", required=True)
    for name, (add, work, summary) in _JOBS.items():
        job = jobs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        add(job)
        job.set_defaults(job=work)


def _explain_run(command: argparse.ArgumentParser) -> None:
    command.epilog, command.formatter_class = _RUN, argparse.RawDescriptionHelpFormatter


def _bench(arguments: argparse.Namespace) -> int | None:
    job: Callable[[argparse.Namespace], int | None] = arguments.job
    return job(arguments)


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("first", metavar="A", type=Path, help="a report's folder, or predictions")
    command.add_argument("second", metavar="B", type=Path, help="the report or predictions that are subtracted from A")
    _add_out(command, "the comparison")
    command.add_argument(
        "--allow",
        metavar="FIELD",
        action="append",
        default=[],
        help="compare although the runs differ in this field, such as condition; repeatable",
    )
    _add_reading(command)


def _compare(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.bench.comparison import compare
    from reasonknee_datasets.bench.report import check_report, write_comparison

    check_report(arguments.out, "comparison.json", overwrite=arguments.overwrite)
    first, second = _read(arguments, arguments.first), _read(arguments, arguments.second)
    compared = compare(first, second, allow=arguments.allow, resamples=arguments.resamples, seed=arguments.seed)
    for path in write_comparison(compared, arguments.out, overwrite=arguments.overwrite):
        print(path)


def _add_errors(command: argparse.ArgumentParser) -> None:
    command.add_argument("given", metavar="GIVEN", type=Path, help="the run in region_given: a report, or predictions")
    told = "runs of the same model in own_region, jittered_region, ..."
    command.add_argument("others", metavar="OTHER", type=Path, nargs="+", help=told)
    _add_out(command, "the error decomposition")
    _add_reading(command)


def _errors(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.bench.comparison import decompose_errors
    from reasonknee_datasets.bench.report import check_report, write_error_decomposition

    check_report(arguments.out, "error_decomposition.json", overwrite=arguments.overwrite)
    given, *others = (_read(arguments, path) for path in (arguments.given, *arguments.others))
    found = decompose_errors(given, others, resamples=arguments.resamples, seed=arguments.seed)
    for path in write_error_decomposition(found, arguments.out, overwrite=arguments.overwrite):
        print(path)


def _read(arguments: argparse.Namespace, path: Path) -> Evaluation:
    if path.is_dir():
        from reasonknee_datasets.bench.report import read_report

        return read_report(path, arguments.data)
    from reasonknee_datasets.bench.evaluation import evaluate

    return evaluate(path, arguments.data, options=replace(_reading(arguments), reasoning=False), resamples=0)


def _add_plan(command: argparse.ArgumentParser) -> None:
    add_data(command)
    _explain_run(command)
    command.add_argument(
        "--condition",
        default="zero_shot",
        metavar="NAME",
        help="zero_shot, guided, region_given, box_first, own_region, jittered_region, text_only, shuffled_image, "
        "official or official_o1 (default: %(default)s)",
    )
    command.add_argument("--split", default="test", help="a whole split (default: %(default)s)")
    command.add_argument("--patients", type=positive, metavar="N", help="a seeded sample of N whole patients")
    _add_questions(command, "ask these questions alone")
    command.add_argument(
        "--prompts",
        metavar="DIR",
        help="folder of the official question files; or rows for the texts in the data, or project for this project's "
        "own texts (default for synthetic data: project)",
    )
    command.add_argument("--damaged", choices=("repair", "leave_out", "keep"), help="treatment of prompts 58 and 59")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: %(default)s)")
    command.add_argument("--frames", type=positive, metavar="N", help="frames of a knee, a crop (default: 32, 16)")
    command.add_argument("--size", type=positive, metavar="PX", help="a frame's longer side in pixels")


def _plan(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.bench.run_plan import make_plan
    from reasonknee_datasets.bench.run_spec import make_study

    names = ("condition", "split", "patients", "questions", "prompts", "damaged", "seed", "frames", "size")
    print(make_plan(make_study(arguments.data, **{name: getattr(arguments, name) for name in names})))


_RUN = """\
inspect_ai asks the model, with the same names as task arguments; then score its log:

  inspect eval reasonknee_datasets/reasonknee_bench --model PROVIDER/MODEL -T data=DIR -T condition=region_given
  reasonknee evaluate --data DIR --predictions logs/LOG.eval --out report"""

_JOBS: dict[str, Command] = {
    "plan": (_add_plan, _plan, "count the requests, images and tokens of a run, without a request"),
    "compare": (_add_compare, _compare, "subtract one model's results from another's, patient by patient"),
    "errors": (_add_errors, _errors, "split the errors of a model: lost by grading, or because of the region"),
}

COMMANDS: dict[str, Command] = {
    "evaluate": (_add_evaluate, _evaluate, "score predictions, with intervals and baselines"),
    "bench": (_add_bench, _bench, "plan a run, compare two runs, or split the errors of a model"),
}
