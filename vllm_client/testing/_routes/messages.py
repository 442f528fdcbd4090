"""The messages of a chat: which ones vLLM accepts, and the prompt made of them (ChatML)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Union

from .._engine.engine import Engine
from .._engine.tokenizer import SPECIAL_TOKENS
from .._wire.json_types import Json
from .._wire.refusals import RefusalError, field_error, validation_error
from .._wire.request_fields import RequestFields

__all__ = ["chat_prompt", "check_messages", "last_question", "message_text"]

_BEGIN = SPECIAL_TOKENS.index("<|im_start|>")
_END = SPECIAL_TOKENS.index("<|im_end|>")
_PLACEHOLDER = SPECIAL_TOKENS.index("<|endoftext|>")
# How many prompt tokens an image or a sound counts as.
_MEDIA_TOKENS = 16

TemplatePiece = Union[str, int]
"""A part of the prompt: a text, or the id of a special token."""


def check_messages(fields: RequestFields) -> None:
    """Refuse a request without messages, and values that are not messages.

    For an invalid message vLLM lists one error for each message type that it tried. This server
    lists only the first.
    """
    if "messages" not in fields:
        shown = f"<dict of {len(fields)} items>"
        raise validation_error([field_error("missing", "body.messages", "Field required", shown)])
    for number, message in enumerate(fields["messages"]):
        loc = f"body.messages.{number}.ChatCompletionDeveloperMessageParam"
        if not isinstance(message, dict) or "role" not in message:
            shown = f"<dict of {len(message)} items>" if isinstance(message, dict) else str(message)
            raise validation_error([field_error("missing", f"{loc}.role", "Field required", shown)])
        content = message.get("content")
        if not _is_content(content):
            text, shown = "Input should be a valid string", str(content)
            raise validation_error([field_error("string_type", f"{loc}.content", text, shown)])
    if not fields["messages"]:
        message = "Cannot apply chat template to an empty conversation."
        raise RefusalError(f"{message} Provide at least one message.")


def chat_prompt(engine: Engine, fields: RequestFields) -> list[int]:
    """Return the token ids of the prompt made of the messages."""
    ids: list[int] = []
    for piece in _template_pieces(fields):
        ids += [piece] if isinstance(piece, int) else engine.tokenizer.encode(piece)
    return ids


def last_question(messages: Sequence[Mapping[str, Json]]) -> str:
    """Return the text of the last user message."""
    texts = (message_text(message) for message in reversed(messages) if message["role"] == "user")
    return next(texts, "")


def message_text(message: Mapping[str, Json]) -> str:
    """Return the text of a message, whether its content is a string or a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if isinstance(part.get("text"), str))


def _template_pieces(fields: RequestFields) -> Iterator[TemplatePiece]:
    if fields.get("tools"):
        yield from _block_pieces("system", json.dumps(fields["tools"], ensure_ascii=False))
    *earlier, last = fields["messages"]
    for message in earlier:
        yield from _message_pieces(message)
    if fields.get("continue_final_message"):
        # Omit the end of the block, so that the model continues the message.
        yield from list(_message_pieces(last))[:-2]
        return
    yield from _message_pieces(last)
    if fields.get("add_generation_prompt", True):
        yield _BEGIN
        yield "assistant\n"


def _message_pieces(message: Mapping[str, Json]) -> Iterator[TemplatePiece]:
    text = message_text(message)
    if message.get("tool_calls"):
        text += json.dumps(message["tool_calls"], ensure_ascii=False)
    content = message.get("content")
    media = [part for part in content if "text" not in part] if isinstance(content, list) else []
    yield from _block_pieces(message["role"], text, _MEDIA_TOKENS * len(media))


def _block_pieces(role: str, text: str, placeholders: int = 0) -> Iterator[TemplatePiece]:
    yield _BEGIN
    yield f"{role}\n{text}"
    yield from [_PLACEHOLDER] * placeholders
    yield _END
    yield "\n"


def _is_content(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(part, dict) for part in value)
    return value is None or isinstance(value, str)
