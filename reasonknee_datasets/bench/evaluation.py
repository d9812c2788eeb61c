"""`evaluate` and `compare`: from predictions and annotations to results with baselines, and their differences."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Any

from reasonknee_datasets.bench.arrays import Truth, keep_answers, keep_attributes
from reasonknee_datasets.bench.baseline_comparison import score_baseline, score_baselines
from reasonknee_datasets.bench.conditions import get_condition
from reasonknee_datasets.bench.group_results import HEADLINE, Estimate
from reasonknee_datasets.bench.metrics.reasoning_scores import ReasoningScorer
from reasonknee_datasets.bench.prediction_files import Source, is_inspect_log, read_identity, split_source
from reasonknee_datasets.bench.predictions import Predictions, read_predictions
from reasonknee_datasets.bench.priors import TrainPriors, read_priors
from reasonknee_datasets.bench.problem_log import Problem
from reasonknee_datasets.bench.reference_results import is_official_file, read_official_results
from reasonknee_datasets.bench.results import Baseline, Results
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.scoring import score
from reasonknee_datasets.bench.truth import Data, filter_questions, open_data, read_references, read_truth
from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.sources import Repository

CONTROLS = ("text_only", "shuffled_image")
IN_SAMPLE = (
    "Split train was scored: baselines and priors were computed from the same records, so their scores are in-sample"
)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Options for reading predictions.

    Attributes
    ----------
    split : str, optional
        Split to score. Default: the split that the file states, else ``test``.
    questions : tuple of int, optional
        Questions to score. Default: the questions whose prompts the file states, else all.
    attributes : tuple of str, optional
        Attributes to score, such as ``("size",)``; other slots are ignored in truth and answers. Default: all.
    convention : BoxConvention or str, optional
        Convention of the boxes. Default: the one that the file states, else the array order of the ``box`` column.
    official : bool, optional
        Read texts by ``json.loads`` alone, as the authors' scripts do. Default: True where the file states an official
        condition.
    strict : bool
        Raise an error for any problem with the predictions. If False, problems are counted and reported.
    reasoning : bool
        Score the reasoning before the answers too. It takes 4 ms a text, or 15 ms on busy cores.
    agreement : bool
        Compare the reasoning with the reference by ROUGE-L too. It takes 13 to 20 ms a text.
    """

    split: str | None = None
    questions: tuple[int, ...] | None = None
    attributes: tuple[str, ...] | None = None
    convention: BoxConvention | str | None = None
    official: bool | None = None
    strict: bool = True
    reasoning: bool = True
    agreement: bool = False

    def __post_init__(self) -> None:
        for number in self.questions or ():
            if number not in QUESTIONS or not QUESTIONS[number].in_records:
                raise BenchError(f"Records ask questions 1 to 62, and {number} is none of them. Leave it out.")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results of `evaluate`, with the predictions and the truth that they were computed from.

    Attributes
    ----------
    results : Results
    predictions : Predictions
        Answers and their problems, parser rules used, and token usage.
    truth : Truth
        Scored records.
    repository : Repository
        Repository of the truth.
    """

    results: Results
    predictions: Predictions
    truth: Truth
    repository: Repository

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Problems with the predictions; only notes if the options were strict."""
        return self.predictions.problems

    def summary(self) -> str:
        """Summarise coverage, the headline with its interval, and the baselines in a few lines."""
        everything, total = self.results.group(), self.results.total()
        covered = everything.coverage
        lines = [
            f"predictions    {covered.given:,} of {covered.records:,} records",
            f"answered       {covered.parsed:,} of {covered.slots:,} slots",
            f"record_exact   {_shown(total)}, slots without a grade counted as wrong",
        ]
        for base in self.results.baselines:
            headline = base.totals.get("missing_as_wrong", {}).get(HEADLINE)
            if headline is not None:
                lines.append(f"  {base.name:<20} {_shown(headline)}")
        if everything.localisation is not None:
            lines.append(f"mean IoU       {_shown(everything.localisation.units['record']['iou'])}")
        return "\n".join(lines)


def evaluate(
    predictions: Source,
    data: Data | None = None,
    *,
    options: ReadOptions | None = None,
    model: str | None = None,
    condition: str | None = None,
    controls: Sequence[Source] = (),
    resamples: int = 2000,
    seed: int = 0,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
) -> Evaluation:
    """Score predictions against a prepared repository.

    Only annotations are read; no image is opened.

    Parameters
    ----------
    predictions : path, sequence of paths, or iterable of mappings
        Logs of `reasonknee_bench` (``LOG.eval``), JSON lines, or a result file of the authors' scripts. A line holds
        ``id``, ``text`` or ``slots``, and optionally ``box``. An iterable yields such lines as mappings.
    data : str, path or Repository, optional
        Prepared repository. Default: the variable REASONKNEE_DATA, then ``./3dreasonknee``.
    options : ReadOptions, optional
        Split, questions and strictness of reading. Default: ``ReadOptions()``.
    model, condition : str, optional
        Name of the model and of the condition. They override the names that the predictions state.
    controls : sequence of predictions
        Predictions of the same model and records in the conditions ``text_only`` and ``shuffled_image``. They are
        reported among the baselines.
    resamples : int
        Number of bootstrap resamples of patients for the intervals; 0 for none.
    seed : int
        Seed of the resamples.
    storage_options, token
        As for `reasonknee_datasets.load_dataset`.

    Returns
    -------
    Evaluation
        ``results.total()`` is the headline with its interval; ``summary()`` returns the main numbers as text.

    Raises
    ------
    BenchError
        If the predictions belong to other data, or have a problem and the options are strict; if the repository has no
        priors; or if a condition is unknown.
    RepositoryError
        If the repository cannot be read.

    See Also
    --------
    reasonknee_datasets.bench.compare : Paired differences of two evaluations.
    reasonknee_datasets.bench.write_report : Report of an evaluation as Markdown, HTML, CSV and LaTeX.
    """
    how = options or ReadOptions()
    if condition is not None:
        get_condition(condition)
    predictions, stated = _peek(predictions)
    repository = open_data(data, storage_options=storage_options, token=token)
    priors = read_priors(repository)
    split = how.split or stated.split or "test"
    truth = _read_asked(repository, split, how, stated)
    reasoning = None
    if how.reasoning:
        reasoning = ReasoningScorer(truth, read_references(repository, split, truth) if how.agreement else None)
    read = _read(predictions, truth, repository, split, how, reasoning.add if reasoning else None)
    identity = replace(
        read.identity,
        model=model or read.identity.model,
        condition=condition or read.identity.condition,
        attributes=None if how.attributes is None else ", ".join(how.attributes),
    )
    train = _train(repository, identity, how)
    if how.attributes is not None:
        truth = keep_attributes(truth, how.attributes)
        read = replace(read, answers=keep_answers(read.answers, truth))
        train = None if train is None else keep_attributes(train, how.attributes)
    results = score(
        truth,
        read.answers,
        priors=priors.most_frequent,
        resamples=resamples,
        seed=seed,
        convention=read.convention,
        numbers=read.numbers,
        identity=identity,
    )
    baselines = score_baselines(
        truth,
        read.answers,
        priors,
        resamples=resamples,
        seed=seed,
        train=train,
        boxes_asked=results.group().localisation is not None,
    )
    own = Evaluation(results, replace(read, identity=identity), truth, repository)
    baselines += tuple(_control(own, each, how, priors) for each in controls)
    warnings = [IN_SAMPLE] if identity.split == "train" else []
    warnings += [warning for base in baselines for warning in base.warnings]
    scores = None
    if reasoning is not None:
        # In every condition slice numbers count the frames that were shown.
        slices = identity.condition is None
        scores = reasoning.finish(truth, read.answers, resamples=resamples, seed=seed, slices=slices)
    results = replace(results, baselines=baselines, warnings=(*results.warnings, *warnings), reasoning=scores)
    return replace(own, results=results)


def _control(own: Evaluation, source: Source, how: ReadOptions, priors: TrainPriors) -> Baseline:
    """Score a control run of the same model as a baseline."""
    control = evaluate(source, own.repository, options=replace(how, split=own.predictions.identity.split), resamples=0)
    one, other = own.predictions.identity, control.predictions.identity
    if other.condition not in CONTROLS:
        raise BenchError(
            f"Condition {other.condition!r} is not a control. Give runs in the conditions {' or '.join(CONTROLS)}."
        )
    if None not in (one.model, other.model) and one.model != other.model:
        raise BenchError(
            f"The control run is of model {other.model!r}, the predictions are of {one.model!r}. Run the control with "
            "the same model."
        )
    if own.truth.ids != control.truth.ids:
        raise BenchError(
            f"The control run {other.condition} asked {len(control.truth)} records, the predictions "
            f"{len(own.truth)}, and they are not the same. Run both on the same questions and patients."
        )
    return score_baseline(
        own.truth,
        own.predictions.answers,
        other.condition,
        control.predictions.answers,
        priors,
        resamples=own.results.sampling.resamples,
        seed=own.results.sampling.seed,
    )


def _shown(value: Estimate) -> str:
    if value.value is None:
        return "undefined"
    interval = "" if value.low is None else f" [{value.low:.3f}, {value.high:.3f}]"
    return f"{value.value:.3f}{interval}"


def _peek(source: Source) -> tuple[Source, RunMetadata]:
    """Read the metadata that a source states first; return the whole source as well."""
    item: object
    files, items = split_source(source)
    if not files:
        lines = iter(items)
        first = list(islice(lines, 1))
        source, item = chain(first, lines), first[0] if first else None
    elif not files[0].is_file():
        return source, RunMetadata()
    elif is_inspect_log(files[0]):
        return source, read_identity(files[0])
    else:
        with files[0].open("rb") as file:
            line = file.readline(4_000_000)
        try:
            item = json.loads(line)
        except (ValueError, RecursionError):
            return source, RunMetadata()
    if isinstance(item, Mapping) and "run" in item and "id" not in item:
        return source, RunMetadata.from_json(item["run"])
    return source, RunMetadata()


def _read_asked(repository: Repository, split: str, how: ReadOptions, stated: RunMetadata) -> Truth:
    """Read the truth of the questions and patients that the run asked."""
    prompted = [int(name) for name in stated.prompts if name.isdecimal()]
    known = [number for number in prompted if number in QUESTIONS and QUESTIONS[number].in_records]
    filters = filter_questions(how.questions or known)
    truth = read_truth(repository, split, filters=filters)
    if stated.patients is None or stated.patients >= len(truth.patients):
        return truth
    return read_truth(repository, split, filters=filters, patients=stated.patients, seed=stated.seed or 0)


def _read(
    source: Source,
    truth: Truth,
    data: Repository,
    split: str,
    how: ReadOptions,
    each_text: Callable[[int, str], None] | None,
) -> Predictions:
    files, _ = split_source(source)
    if len(files) == 1 and files[0].is_file() and not is_inspect_log(files[0]) and is_official_file(files[0]):
        read = partial(read_official_results, files[0], truth, official=bool(how.official))
    else:
        read = partial(read_predictions, source, truth, convention=how.convention, official=how.official)
    return read(data=data, split=split, strict=how.strict, each_text=each_text)


def _train(repository: Repository, identity: RunMetadata, how: ReadOptions) -> Truth | None:
    """Read the train split where the true box was shown, for the baseline that sees the box alone."""
    if identity.condition is None or not get_condition(identity.condition).sees_true_box:
        return None
    if identity.split == "train" or not repository.manifest.shards("quintuples", "train"):
        return None
    return read_truth(repository, "train", filters=filter_questions(how.questions))
