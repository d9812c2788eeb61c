"""Requests as chat messages of inspect_ai, and a model call whose frames stay out of the log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

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

from reasonknee_datasets.bench.messages import Frames, Request

if TYPE_CHECKING:
    from inspect_ai.event import ModelEvent

_Message = TypeVar("_Message", bound=ChatMessageBase)


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
