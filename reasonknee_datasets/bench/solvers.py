"""The solver of the inspect_ai task: a record's one or two requests, and what is recorded of them."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import anyio
from inspect_ai.log import transcript
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageBase,
    ChatMessageSystem,
    ChatMessageUser,
    Content,
    ContentImage,
    ContentText,
    ModelOutput,
    get_model,
)

# Not among inspect_ai's public names, and the only way to keep images out of a log without an option that every user
# would have to give (--no-log-images). tests/bench/test_tasks.py notices if it goes.
from inspect_ai.model._model import use_model_event_sink
from inspect_ai.solver import Generate, Solver, TaskState, solver

from reasonknee_datasets.bench.model_requests import (
    Frames,
    Request,
    ask,
    ask_after_box,
    ask_for_box,
    read_box,
)
from reasonknee_datasets.bench.predictions.prediction_files import read_output
from reasonknee_datasets.bench.question_records import Record
from reasonknee_datasets.bench.run_spec import LOG_CONVENTION, RunSpec
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BenchError

if TYPE_CHECKING:
    from inspect_ai.event import ModelEvent

GIVE_UP_AFTER = 20
"""Failures in a row, without any answer between them, after which the rest of a run is not asked."""

_Message = TypeVar("_Message", bound=ChatMessageBase)
Send = Callable[[Request], Awaitable[ModelOutput]]


def to_chat(request: Request) -> list[ChatMessage]:
    """Convert a request to chat messages, each frame a PNG in a data URL."""
    chat: list[ChatMessage] = []
    for message in request.messages:
        text = message.parts[0]
        if message.role == "system":
            chat.append(ChatMessageSystem(content=str(text)))
        elif message.role == "assistant":
            chat.append(ChatMessageAssistant(content=str(text)))
        elif len(message.parts) == 1 and isinstance(text, str):
            chat.append(ChatMessageUser(content=text))
        else:
            chat.append(ChatMessageUser(content=[block for part in message.parts for block in _blocks(part)]))
    return chat


def _blocks(part: str | Frames) -> list[Content]:
    if isinstance(part, str):
        return [ContentText(text=part)]
    return [ContentImage(image=url) for url in part.data_urls]


def without_images(messages: Iterable[_Message]) -> list[_Message]:
    """Copy messages with each run of images replaced by one line of text."""
    return [_without_images(message) for message in messages]


def _without_images(message: _Message) -> _Message:
    if isinstance(message.content, str):
        return message
    kept: list[Content] = []
    count = 0
    for block in [*message.content, None]:
        if isinstance(block, ContentImage):
            count += 1
            continue
        if count:
            kept.append(ContentText(text=f"[{count} frames, not logged]"))
            count = 0
        if block is not None:
            kept.append(block)
    return message.model_copy(update={"content": kept})


class _EventsWithoutImages:
    """Add model calls to the sample's transcript with their images replaced."""

    def on_pending(self, event: ModelEvent) -> None:
        event.input = without_images(event.input)
        transcript()._event(event)

    def on_complete(self, event: ModelEvent) -> None:
        transcript()._event_updated(event)


async def generate_unlogged(request: Request) -> ModelOutput:
    """Send a request to the evaluated model; the log gets everything but the images."""
    with use_model_event_sink(_EventsWithoutImages()):
        return await get_model().generate(to_chat(request))


class _Breaker:
    """Stops asking once many requests in a row have failed: with a wrong key or address all of them would."""

    def __init__(self) -> None:
        self._failures = 0
        self._lock = threading.Lock()

    def check(self) -> None:
        if self._failures >= GIVE_UP_AFTER:
            raise BenchError(
                f"Not asked: the last {self._failures} requests failed, and no answer came between them. Repair the "
                "cause, then run `inspect eval-retry` on this log."
            )

    def count(self, *, failed: bool) -> None:
        with self._lock:
            self._failures = self._failures + 1 if failed else 0


@solver
def ask_records(study: RunSpec) -> Solver:
    """Ask the question of a sample's record, in one or two turns as the condition has it.

    Parameters
    ----------
    study : RunSpec
    """
    records = {record.id: record for record in study.records.items}
    breaker = _Breaker()

    async def send(request: Request) -> ModelOutput:
        breaker.check()
        try:
            output = await generate_unlogged(request)
        except Exception:  # whatever a provider raises is counted, and raised again: inspect_ai decides about it
            breaker.count(failed=True)
            raise
        breaker.count(failed=False)
        return output

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        record = records[str(state.sample_id)]
        return await _Conversation(study, record, state, send).run()

    return solve


class _Conversation:
    """The requests of one sample, and what is recorded of them in the sample's metadata."""

    def __init__(self, study: RunSpec, record: Record, state: TaskState, send: Send) -> None:
        self.study, self.record, self.state, self.send = study, record, state, send
        state.messages = []

    async def run(self) -> TaskState:
        condition, prompts, record = self.study.condition, self.study.prompts, self.record
        if condition.image == "none":
            return await self.ask(ask(record, condition, prompts, None))
        region = await anyio.to_thread.run_sync(self.study.region, record)
        frames = await self.render(region)
        if not condition.asks_box:
            return await self.ask(ask(record, condition, prompts, frames))
        first = ask_for_box(record, condition, frames)
        await self.ask(first)
        said = read_output(self.state.output.model_dump())
        box = await anyio.to_thread.run_sync(self.read_box, said["text"], said["finish_reason"])
        if condition.region == "whole":
            return await self.ask(ask_after_box(first, said["text"] or "", record, prompts), new=-1)
        if box is None:
            # There is nothing to crop to, and no other region may take its place.
            self.state.output = ModelOutput(model=self.state.output.model)
            return self.state
        return await self.ask(ask(record, condition, prompts, await self.render(box)))

    async def ask(self, request: Request, new: int = 0) -> TaskState:
        """Send a request; add its messages from `new` on, without images, and the reply to the conversation."""
        note = self.state.metadata
        note["prompt"], note["frames"] = request.prompt_hash, request.frames_hash
        self.state.messages.extend(without_images(to_chat(request)[new:]))
        self.state.output = await self.send(request)
        if not self.state.output.empty:
            self.state.messages.append(self.state.output.message)
        return self.state

    async def render(self, region: Box | None) -> Frames:
        note = self.state.metadata
        note["volume"] = self.study.volume_path(self.record)
        note["recipe"] = repr(self.study.condition.frames if region is None else self.study.condition.region_frames)
        note["region"] = None if region is None else region.to_row()
        return await anyio.to_thread.run_sync(self.study.render, self.record, region)

    def read_box(self, text: str | None, finish_reason: str | None) -> Box | None:
        found = read_box(text, self.study.condition.frames, self.study.volume(self.record), finish_reason)
        box = None if found.box is None else list(LOG_CONVENTION.encode(found.box, ()))
        self.state.metadata.update(box=box, box_reason=found.reason, box_rules=list(found.rules))
        return found.box
