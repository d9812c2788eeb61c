"""`ask_records`: the inspect_ai solver that sends the requests of a record to the evaluated model.

A sample is one record. Its frames are rendered when it starts and are not logged: the log holds the volume's path, the
frame recipe, the region and a hash of the pixels, which are enough to render them again.
"""

from __future__ import annotations

from itertools import groupby
from typing import TypeVar

import anyio
from inspect_ai.event import ModelEvent
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
# would have to set (--no-log-images). tests/bench/test_tasks.py notices if it goes.
from inspect_ai.model._model import use_model_event_sink
from inspect_ai.solver import Generate, Solver, TaskState, solver

from reasonknee_datasets.bench.model_requests import Frames, Record, Request, ask, ask_after_box, ask_for_box, read_box
from reasonknee_datasets.bench.prediction_files import read_output
from reasonknee_datasets.bench.run_spec import LOG_CONVENTION, RunSpec
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BenchError

# Failures in a row, without an answer between them, after which the rest of a run is not asked.
_GIVE_UP_AFTER = 20

_Message = TypeVar("_Message", bound=ChatMessageBase)


@solver
def ask_records(study: RunSpec) -> Solver:
    """Ask the question of a sample's record, in one or two turns as the condition has it.

    Parameters
    ----------
    study : RunSpec
    """
    records = {record.id: record for record in study.records}
    sender = _Sender()

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return await _Conversation(study, records[str(state.sample_id)], state, sender).run()

    return solve


class _Conversation:
    """The requests of one sample; the sample's messages and metadata record them."""

    def __init__(self, study: RunSpec, record: Record, state: TaskState, sender: _Sender) -> None:
        self.study, self.record, self.state, self.sender = study, record, state, sender
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
        reply = read_output(self.state.output.model_dump())
        box = await anyio.to_thread.run_sync(self.read_box, reply["text"], reply["finish_reason"])
        if condition.region == "whole":
            return await self.ask(ask_after_box(first, reply["text"] or "", record, prompts), new=-1)
        if box is None:
            # There is nothing to crop to, and no other region may take its place.
            self.state.output = ModelOutput(model=self.state.output.model)
            return self.state
        return await self.ask(ask(record, condition, prompts, await self.render(box)))

    async def ask(self, request: Request, new: int = 0) -> TaskState:
        """Send a request; add its messages from `new` on, without images, and the reply to the conversation."""
        state, chat = self.state, to_chat(request)
        state.metadata |= {"prompt": request.prompt_hash, "frames": request.frames_hash}
        state.messages.extend(map(without_images, chat[new:]))
        state.output = await self.sender.send(chat)
        if not state.output.empty:
            state.messages.append(state.output.message)
        return state

    async def render(self, region: Box | None) -> Frames:
        condition = self.study.condition
        self.state.metadata |= {
            "volume": self.study.volume_path(self.record),
            "recipe": repr(condition.frames if region is None else condition.region_frames),
            "region": None if region is None else region.to_row(),
        }
        return await anyio.to_thread.run_sync(self.study.render, self.record, region)

    def read_box(self, text: str | None, finish_reason: str | None) -> Box | None:
        found = read_box(text, self.study.condition.frames, self.study.volume(self.record), finish_reason)
        box = None if found.box is None else list(LOG_CONVENTION.encode(found.box, ()))
        self.state.metadata |= {"box": box, "box_reason": found.reason, "box_rules": list(found.rules)}
        return found.box


class _Sender:
    """Send requests, until many in a row have failed: with a wrong key or address all of them would."""

    def __init__(self) -> None:
        self._failures = 0

    async def send(self, chat: list[ChatMessage]) -> ModelOutput:
        """Send messages to the evaluated model; the images are not logged."""
        if self._failures >= _GIVE_UP_AFTER:
            raise BenchError(
                f"Not asked: the last {self._failures} requests failed, and no answer came between them. Repair the "
                "cause, then run `inspect eval-retry` on this log."
            )
        try:
            with use_model_event_sink(_EventsWithoutImages()):
                output = await get_model().generate(chat)
        except Exception:  # every error of a provider is counted, and raised again: inspect_ai decides about it
            self._failures += 1
            raise
        self._failures = 0
        return output


def to_chat(request: Request) -> list[ChatMessage]:
    """Convert a request to inspect_ai's chat messages, each frame a PNG in a data URL."""
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
            chat.append(ChatMessageUser(content=[block for part in message.parts for block in _to_blocks(part)]))
    return chat


def _to_blocks(part: str | Frames) -> list[Content]:
    return [ContentText(text=part)] if isinstance(part, str) else [ContentImage(image=url) for url in part.data_urls]


def without_images(message: _Message) -> _Message:
    """Copy a message with each run of images replaced by one line of text."""
    if isinstance(message.content, str):
        return message
    kept: list[Content] = []
    for are_images, blocks in groupby(message.content, lambda block: isinstance(block, ContentImage)):
        run = list(blocks)
        kept += [ContentText(text=f"[{len(run)} frames, not logged]")] if are_images else run
    return message.model_copy(update={"content": kept})


class _EventsWithoutImages:
    """Add model calls to the sample's transcript with their images replaced."""

    def on_pending(self, event: ModelEvent) -> None:
        event.input = [without_images(message) for message in event.input]
        transcript()._event(event)

    def on_complete(self, event: ModelEvent) -> None:
        transcript()._event_updated(event)
