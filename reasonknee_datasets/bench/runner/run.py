"""`run` and `dry_run`: ask a model about every record of a study and lose nothing, or count what that would take.

Threads wait for the endpoint, since there is nothing else to do meanwhile; the calling thread makes the next request's
frames. Whoever gets an answer journals it at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from reasonknee_datasets.bench.conditions import Condition
from reasonknee_datasets.bench.prompts import Damaged, Prompts
from reasonknee_datasets.bench.runner.asking import media
from reasonknee_datasets.bench.runner.engine import Engine, Summary
from reasonknee_datasets.bench.runner.journal import Journal, read_done
from reasonknee_datasets.bench.runner.pace import Pace, Retry
from reasonknee_datasets.bench.runner.plan import ImageTokens, Plan, Price, count, patch_tokens
from reasonknee_datasets.bench.runner.replies import Generation, Model
from reasonknee_datasets.bench.runner.study import Study, make_study
from reasonknee_datasets.bench.truth import Data
from reasonknee_datasets.errors import BenchError, explain


def run(
    data: Data | Study | None,
    model: Model,
    condition: Condition | str = "zero_shot",
    journal: str | os.PathLike[str] = "answers.jsonl",
    *,
    split: str = "test",
    prompts: Prompts | str | os.PathLike[str] | None = None,
    damaged: Damaged | None = None,
    patients: int | None = None,
    questions: Sequence[int] | None = None,
    seed: int = 0,
    generation: Generation | None = None,
    concurrency: int = 8,
    retry: Retry | None = None,
    pace: Pace | None = None,
    price: Price | None = None,
    give_up_after: int = 20,
    on_failure: Literal["leave", "record"] = "leave",
    progress: bool | None = None,
    volumes_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
) -> Summary:
    """Ask a model, and keep its answers in a journal.

    A journal of the same run is gone on with: what it answers is not asked again. It may be killed at any moment.

    Parameters
    ----------
    data, condition, split, prompts, damaged, patients, questions, seed, volumes_dir, storage_options, token
        What is asked, of which records, as for `make_study`; or ``data`` is a `Study`, and these are left out.
    model : Model
        `OpenAIModel`, `TransformersModel`, `CallableModel`, or whatever has their attributes.
    journal : str or path
        The file. Where the model is first asked for a box, those replies stand in ``<name>.boxes.jsonl`` beside it.
    generation : Generation, optional
        By default up to 1,024 tokens at temperature 0; an official condition brings its own.
    concurrency : int
        Questions that are asked at once, at most; fewer where the model says so.
    retry : Retry, optional
    pace : Pace, optional
        Rate limits.
    price : Price, optional
        To count dollars.
    give_up_after : int
        Failures in a row that end the run.
    on_failure : {"leave", "record"}
        What becomes of a record that got no answer after all attempts: the next run asks again, or it is journaled as
        failed. A request that the endpoint refuses for good (HTTP 400, 422) is journaled either way.
    progress : bool, optional
        A bar on stderr; by default where that is a terminal.

    Returns
    -------
    Summary

    Raises
    ------
    BenchError
        If the journal is of another run, or is damaged; or the model cannot be asked in this way.
    AskError
        If the endpoint takes no question at all. What was answered is in the journal.
    """
    study = (
        data
        if isinstance(data, Study)
        else make_study(
            data,
            condition,
            split=split,
            prompts=prompts,
            damaged=damaged,
            patients=patients,
            questions=questions,
            seed=seed,
            volumes_dir=volumes_dir,
            storage_options=storage_options,
            token=token,
        )
    )
    workers = _check(study, model, concurrency, give_up_after)
    settings = study.generation(generation)
    identity = study.identify(model, settings)
    with ExitStack() as stack:
        answers = stack.enter_context(Journal(journal, identity))
        boxes = stack.enter_context(Journal(_beside(journal), identity)) if study.condition.asks_box else None
        engine = Engine(
            study,
            model,
            settings,
            answers,
            boxes,
            retry=retry or Retry(),
            pace=pace or Pace(),
            price=price,
            give_up_after=give_up_after,
            on_failure=on_failure,
        )
        _drive(engine, workers, progress)
        return engine.finish()


def dry_run(
    data: Data | Study | None = None,
    condition: Condition | str = "zero_shot",
    journal: str | os.PathLike[str] | None = None,
    *,
    generation: Generation | None = None,
    price: Price | None = None,
    image_tokens: ImageTokens = patch_tokens,
    **options: Any,
) -> Plan:
    """Count what a run would ask: requests, pictures, tokens and dollars. Nothing is asked and no voxel is read.

    Parameters
    ----------
    data, condition, generation, price
        As for `run`.
    journal : str or path, optional
        Leaves out what it answers, whatever run it is of.
    image_tokens : callable
        Rows and columns of a picture to its tokens; by default one token for each 28x28 pixels.
    **options
        ``split``, ``prompts``, ``damaged``, ``patients``, ``questions``, ``seed``, ``volumes_dir``,
        ``storage_options`` and ``token``, as for `run`.
    """
    study = data if isinstance(data, Study) else make_study(data, condition, **options)
    done = () if journal is None else read_done(journal)
    return count(study, study.generation(generation), done, price=price, image_tokens=image_tokens)


def _beside(journal: str | os.PathLike[str]) -> Path:
    path = Path(journal)
    return path.with_name(f"{path.stem}.boxes.jsonl")


def _check(study: Study, model: Model, concurrency: int, give_up_after: int) -> int:
    """Refuse what cannot be asked, before anything is; give how many threads ask."""
    for name, value in (("concurrency", concurrency), ("give_up_after", give_up_after)):
        if value < 1:
            raise BenchError(explain(name, "be at least 1", value, "Give a whole number"))
    wanted = media(study.condition)
    if wanted not in model.media:
        remedy = "Ask it through TransformersModel, or in the condition guided, which shows pictures"
        rule = f"take frames as {wanted}, as the condition {study.condition} gives them"
        raise BenchError(explain(f"model {model.name}", rule, ", ".join(sorted(model.media)), remedy))
    return concurrency if model.concurrency is None else min(concurrency, model.concurrency)


def _drive(engine: Engine, workers: int, progress: bool | None) -> None:
    """Hand out jobs, one more than there are threads, so that the next frames are ready when a thread is."""
    from tqdm import tqdm

    summary = engine.summary
    engine.pace.begin()
    bar = tqdm(
        total=summary.records,
        initial=summary.resumed,
        unit="record",
        disable=None if progress is None else not progress,
    )
    pending: set[Future[None]] = set()

    def collect(most: int) -> None:
        nonlocal pending
        while len(pending) > most:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            bar.update(len(done))
            bar.set_postfix(engine.note(), refresh=False)

    with bar, ThreadPoolExecutor(workers, thread_name_prefix="reasonknee-ask") as pool:
        try:
            for job in engine.jobs():
                collect(workers)
                if engine.ended.is_set():
                    break
                pending.add(pool.submit(engine.work, job))
            collect(0)
        finally:
            # After Ctrl-C or a fault, what is on its way is paid for: it is waited for and journaled.
            engine.end()
