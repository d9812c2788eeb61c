"""`Engine`: what the threads of a run do with one record, and what they share."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from reasonknee_datasets.bench.runner.asking import (
    Task,
    ask,
    ask_after_box,
    ask_for_box,
    crop,
    media,
    show,
    true_region,
)
from reasonknee_datasets.bench.runner.journal import Journal
from reasonknee_datasets.bench.runner.pace import Pace, Retry, ask_again
from reasonknee_datasets.bench.runner.plan import Price
from reasonknee_datasets.bench.runner.predicted import read_box
from reasonknee_datasets.bench.runner.replies import AskError, Generation, Model, Reply
from reasonknee_datasets.bench.runner.requests import Frames, Request
from reasonknee_datasets.bench.runner.study import JOURNAL_CONVENTION, Study
from reasonknee_datasets.bench.runner.tasks import in_order
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import add_note

Usage = dict[str, int]


@dataclass(frozen=True, slots=True)
class Job:
    """One record, with what its model is shown."""

    task: Task
    volume: Any
    frames: Frames
    region: Box | None


@dataclass(slots=True)
class Summary:
    """What a run did.

    Attributes
    ----------
    journal : Path
    records : int
        Of the study.
    resumed : int
        Answered before.
    answered : int
        Answered now, refusals that were journaled among them.
    refused : int
        Of these: requests that the endpoint will not take.
    failed : list of str
        Ids without an answer after all attempts. They are not in the journal: the next run asks for them again.
    requests : int
        Sent now, repeated ones included.
    usage : dict of str to int
        Tokens of the answers that came now.
    cost : float or None
        Dollars; None without prices.
    """

    journal: Path
    records: int
    resumed: int
    answered: int = 0
    refused: int = 0
    failed: list[str] = field(default_factory=list)
    requests: int = 0
    usage: Usage = field(default_factory=dict)
    cost: float | None = None

    def __str__(self) -> str:
        tokens = f"{self.usage.get('prompt_tokens', 0):,} tokens in, {self.usage.get('completion_tokens', 0):,} out"
        cached = self.usage.get("cached_tokens")
        parts = [f"{self.answered:,} of {self.records:,} records answered now, {self.resumed:,} before", tokens]
        parts += [f"{cached:,} of them cached"] if cached else []
        parts += [f"{self.cost:,.2f} dollars"] if self.cost is not None else []
        parts += [f"{self.refused:,} refused"] if self.refused else []
        parts += [f"{len(self.failed):,} failed, to be asked again by the next run"] if self.failed else []
        return f"{self.journal}: {'; '.join(parts)}"


class Engine:
    """One run's state, shared by its threads; `reasonknee_datasets.bench.runner.run` makes and drives it."""

    def __init__(
        self,
        study: Study,
        model: Model,
        generation: Generation,
        journal: Journal,
        boxes: Journal | None,
        *,
        retry: Retry,
        pace: Pace,
        price: Price | None,
        give_up_after: int,
        on_failure: Literal["leave", "record"],
    ) -> None:
        self.study, self.model, self.generation = study, model, generation
        self.journal, self.boxes, self.retry, self.pace, self.price = journal, boxes, retry, pace, price
        self.give_up_after, self.on_failure = give_up_after, on_failure
        resumed = len(journal.answers)
        self.summary = Summary(journal.path, len(study.records.tasks), resumed)
        self.ended = threading.Event()
        self.cause: AskError | None = None
        self._lock = threading.Lock()
        self._in_a_row = 0
        # A wrong setting makes an endpoint refuse all requests: refusals are answers only once it has answered one.
        self._answers_at_all = any(line.get("text") is not None for line in journal.answers.values())
        self._held: list[dict[str, Any]] = []

    def jobs(self) -> Iterator[Job]:
        """Make what is shown, one record after the other; frames of one volume or crop are made once."""
        study = self.study
        condition, records = study.condition, study.records
        for path, tasks in in_order(records.tasks, condition, self.journal.answers):
            volume = records.volume(path)
            last: tuple[Box | None, Frames] | None = None
            for task in tasks:
                if condition.sees_true_box:
                    region = true_region(task, condition, volume.shape, study.seed)
                    if last is None or last[0] != region:
                        last = region, show(condition.region_frames, crop(volume, region, condition))
                elif last is None:
                    last = None, show(condition.frames, volume, media(condition))
                yield Job(task, volume, last[1], last[0])

    def work(self, job: Job) -> None:
        """Ask about one record and journal the answer; faults of the endpoint are kept, others raised."""
        if self.ended.is_set():
            return
        line: dict[str, Any] = {"id": job.task.id, "text": None, "finish_reason": None, "error": None}
        try:
            self._fill(line, job)
        except AskError as error:
            self._fail(line, error)
            return
        with self._lock:
            self._in_a_row, self._answers_at_all = 0, True
            held, self._held = self._held, []
        for each in [*held, line]:
            self._journal(each)

    def note(self) -> dict[str, str]:
        """Give what a progress bar shows beside the records."""
        usage, summary = self.summary.usage, self.summary
        note = {"tokens": f"{sum(usage.get(name, 0) for name in ('prompt_tokens', 'completion_tokens')):,}"}
        note |= {"failed": str(len(summary.failed))} if summary.failed else {}
        return note | ({"dollars": f"{self.price.of(usage):.2f}"} if self.price is not None else {})

    def finish(self) -> Summary:
        """Journal the refusals that were held back, if the endpoint answered at all; raise what ended the run."""
        held, self._held = self._held, []
        if self.cause is None and held and not self._answers_at_all and self.on_failure == "leave":
            self.cause = AskError(f"every request was refused, so none is journaled; the first: {held[0]['error']}")
        if self.cause is not None:
            there = len(self.journal.answers)
            add_note(self.cause, f"{there} of {self.summary.records} records are answered in {self.journal.path}")
            add_note(self.cause, "the same run again goes on from there")
            raise self.cause
        for each in held:
            self._journal(each)
        self.summary.cost = None if self.price is None else self.price.of(self.summary.usage)
        return self.summary

    def _fill(self, line: dict[str, Any], job: Job) -> None:
        """Ask a record's one or two questions."""
        condition, prompts = self.study.condition, self.study.prompts
        usage: Usage = {}
        if job.region is not None:
            line["region"] = JOURNAL_CONVENTION.encode(job.region, ())
        if not condition.asks_box:
            request = ask(job.task, condition, prompts, job.frames)
        else:
            first = ask_for_box(job.task, condition, job.frames)
            located = self._locate(first, job.task.id)
            usage = dict(located["usage"])
            found = read_box(located["text"], condition.frames, job.volume, located["finish_reason"])
            box = None if found.box is None else JOURNAL_CONVENTION.encode(found.box, ())
            line |= {"box": box, "box_text": located["text"], "box_reason": found.reason, "box_rules": found.rules}
            if condition.region == "whole":
                request = ask_after_box(first, located["text"] or "", job.task, prompts)
            elif found.box is None:
                # There is nothing to crop to, and no other region ever stands in.
                line |= {"finish_reason": "no_box", "usage": usage, "prompt": first.prompt_hash}
                return
            else:
                frames = show(condition.region_frames, crop(job.volume, found.box, condition))
                request = ask(job.task, condition, prompts, frames)
        reply = self._ask(request)
        usage = add_usage(usage, reply.usage)
        line |= {"text": reply.text, "finish_reason": reply.finish_reason, "usage": usage}
        line |= {"prompt": request.prompt_hash} | ({"served": reply.served} if reply.served is not None else {})

    def _locate(self, request: Request, name: str) -> dict[str, Any]:
        """Ask where the region is, unless that was answered before a kill."""
        assert self.boxes is not None
        known = self.boxes.answers.get(name)
        if known is None:
            reply = self._ask(request)
            known = {"id": name, "text": reply.text, "finish_reason": reply.finish_reason, "usage": dict(reply.usage)}
            self.boxes.append(known | {"prompt": request.prompt_hash})
        return known

    def _ask(self, request: Request) -> Reply:
        def once() -> Reply:
            with self._lock:
                self.summary.requests += 1
            return self.model.ask(request, self.generation)

        reply, _ = ask_again(once, self.retry, self.pace)
        with self._lock:
            self.summary.usage = add_usage(self.summary.usage, reply.usage)
        return reply

    def _fail(self, line: dict[str, Any], error: AskError) -> None:
        line["error"] = self.model.redact(str(error))
        with self._lock:
            # An endpoint that answers others has its reasons; one that answers none was asked wrongly.
            settled = error.kind == "refused" and self._answers_at_all
            self._in_a_row += not settled
            if (error.kind == "fatal" or self._in_a_row >= self.give_up_after) and not self.ended.is_set():
                self.cause = error
                self.end()
            if error.kind == "refused" or (error.kind == "transient" and self.on_failure == "record"):
                if not settled:
                    self._held.append(line)
            else:
                self.summary.failed.append(line["id"])
        if settled:
            self._journal(line)

    def end(self) -> None:
        """Ask nothing more; what is on its way is waited for."""
        self.ended.set()
        self.pace.end()

    def _journal(self, line: dict[str, Any]) -> None:
        self.journal.append(line)
        with self._lock:
            self.summary.answered += 1
            self.summary.refused += line["error"] is not None


def add_usage(one: Usage, other: Mapping[str, int]) -> Usage:
    """Add two counts of tokens.

    Examples
    --------
    >>> add_usage({"prompt_tokens": 3}, {"prompt_tokens": 4, "completion_tokens": 1})
    {'prompt_tokens': 7, 'completion_tokens': 1}
    """
    names = dict.fromkeys((*one, *other))
    return {name: one.get(name, 0) + other.get(name, 0) for name in names}
