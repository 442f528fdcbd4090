"""The messages of a chat: which ones vLLM takes, and the prompt that they become (ChatML)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union

from .._engine.engine import Engine
from .._engine.tokenizer import SPECIAL_TOKENS
from .._wire.fields import Fields
from .._wire.refusals import RefusalError, invalid

__all__ = ["chat_prompt", "check_messages", "last_question", "text_of"]

_BEGIN = SPECIAL_TOKENS.index("<|im_start|>")
_END = SPECIAL_TOKENS.index("<|im_end|>")
_PLACEHOLDER = SPECIAL_TOKENS.index("<|endoftext|>")
# What a picture or a sound counts for in the prompt.
_MEDIA_TOKENS = 16

Piece = Union[str, int]


def check_messages(fields: Fields) -> None:
    """Refuse a request without messages, and messages that are none.

    vLLM lists an error for each kind of message that a wrong one might have been; the stand-in
    lists the first.
    """
    if "messages" not in fields:
        shown = f"<dict of {len(fields)} items>"
        raise invalid([_error("missing", "body.messages", "Field required", shown)])
    for number, message in enumerate(fields["messages"]):
        at = f"body.messages.{number}.ChatCompletionDeveloperMessageParam"
        if not isinstance(message, dict) or "role" not in message:
            shown = f"<dict of {len(message)} items>" if isinstance(message, dict) else str(message)
            raise invalid([_error("missing", f"{at}.role", "Field required", shown)])
        content = message.get("content")
        if not _is_content(content):
            wrong = "Input should be a valid string"
            raise invalid([_error("string_type", f"{at}.content", wrong, str(content))])
    if not fields["messages"]:
        message = "Cannot apply chat template to an empty conversation."
        raise RefusalError(f"{message} Provide at least one message.")


def chat_prompt(engine: Engine, fields: Fields) -> list[int]:
    """Return the token ids of the prompt that the messages make."""
    ids: list[int] = []
    for piece in _template(fields):
        ids += [piece] if isinstance(piece, int) else engine.tokenizer.encode(piece)
    return ids


def last_question(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of the last message that a user wrote."""
    return next((text_of(each) for each in reversed(messages) if each["role"] == "user"), "")


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message, in whichever parts it comes."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if isinstance(part.get("text"), str))


def _template(fields: Fields) -> Iterator[Piece]:
    if fields.get("tools"):
        yield from _block("system", json.dumps(fields["tools"], ensure_ascii=False))
    *earlier, last = fields["messages"]
    for message in earlier:
        yield from _message(message)
    if fields.get("continue_final_message"):
        yield from list(_message(last))[:-2]
        return
    yield from _message(last)
    if fields.get("add_generation_prompt", True):
        yield _BEGIN
        yield "assistant\n"


def _message(message: Mapping[str, Any]) -> Iterator[Piece]:
    text = text_of(message)
    if message.get("tool_calls"):
        text += json.dumps(message["tool_calls"], ensure_ascii=False)
    content = message.get("content")
    media = [part for part in content if "text" not in part] if isinstance(content, list) else []
    yield from _block(message["role"], text, _MEDIA_TOKENS * len(media))


def _block(role: str, text: str, placeholders: int = 0) -> Iterator[Piece]:
    yield _BEGIN
    yield f"{role}\n{text}"
    yield from [_PLACEHOLDER] * placeholders
    yield _END
    yield "\n"


def _is_content(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(part, dict) for part in value)
    return value is None or isinstance(value, str)


def _error(kind: str, loc: str, message: str, shown: str) -> dict[str, Any]:
    return {"type": kind, "loc": loc, "msg": message, "input": shown}
