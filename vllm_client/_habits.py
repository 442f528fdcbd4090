"""Habits from other clients: a name that does not exist here leads to its replacement."""

from __future__ import annotations

from typing import Any, Callable, List, NoReturn, Optional, TypeVar

__all__ = [
    "ANSWER_HABITS",
    "CHAT_HABITS",
    "CLIENT_HABITS",
    "EVENT_HABITS",
    "PIECE_HABITS",
    "STREAM_HABITS",
    "client_habits",
    "habits",
]

_C = TypeVar("_C", bound=type)

EVENT_HABITS = {
    "choices": "a stream yields events of several types: look at event.type, then at the fields of "
    "that type",
}
PIECE_HABITS = {
    "choices": "an event is a piece of one choice: event.index is its number, and the fields stand "
    "here; event.chunk['choices'] is what the server sent",
    "delta": "the fields of the piece stand here, such as event.text",
    "content": "use event.text",
    "function": "use event.name and event.arguments",
    "model_dump": "use event.chunk, the decoded JSON of the server",
}
STREAM_HABITS = {
    "get_final_completion": "use collect()",
    "get_final_message": "use collect().message",
    "get_final_text": "use collect_text()",
    "text_stream": "use text_deltas()",
    "until_done": "use collect()",
}
_JSON = "use json.dumps(answer.to_dict())"
ANSWER_HABITS = {
    "dict": "use to_dict()",
    "get": "use the attribute, such as answer.choices",
    "json": _JSON,
    "model_dump": "use to_dict()",
    "model_dump_json": _JSON,
    "object": "use raw['object']",
    "system_fingerprint": "use raw['system_fingerprint']",
    "to_json": _JSON,
}
_PARSE = "use client.chat.completions.create(response_format=…) with a class"
CHAT_HABITS = {
    "create": "use client.chat.completions.create()",
    "parse": _PARSE,
    "stream": "use client.chat.completions.stream()",
}
CLIENT_HABITS = {
    "ChatCompletion": "use client.chat.completions",
    "Completion": "use client.completions",
    "batches": "use client.batch",
    "beta": _PARSE,
    "chat_completions": "use client.chat.completions",
    "copy": "use with_options()",
    "post": "use client.request()",
}


class _Habit:
    """An attribute that does not exist, and says what to use instead.

    ``__getattr__`` would do the same, but makes every attribute of the class slower on Python 3.11.
    """

    def __init__(self, name: str, hint: str) -> None:
        self._name = name
        self._hint = hint
        self.__doc__ = f"Does not exist: {hint}."

    def __get__(self, instance: object, owner: Optional[type] = None) -> Any:
        if instance is None:
            return self
        name = type(instance).__name__
        raise AttributeError(f"{name!r} object has no attribute {self._name!r}: {self._hint}")


def client_habits(**replacements: str) -> Callable[[_C], _C]:
    """Like :func:`habits`, for clients and resources: ``dir()`` of the class is unchanged too.

    It makes attributes slower on Python 3.11. That costs nothing where one is used once a request.
    """

    def unknown(self: object, name: str) -> NoReturn:
        message = f"{type(self).__name__!r} object has no attribute {name!r}"
        hint = replacements.get(name)
        raise AttributeError(f"{message}: {hint}" if hint else message)

    def with_hints(cls: _C) -> _C:
        setattr(cls, "__getattr__", unknown)  # noqa: B010
        return cls

    return with_hints


def habits(**hints: str) -> Callable[[_C], _C]:
    """Let attributes of other clients raise an AttributeError with a hint.

    ``dir()`` and completion do not show them, and a type checker does not know them. A subscript,
    as of the dictionaries of old clients, raises a TypeError that names the attribute.
    """

    def with_hints(cls: _C) -> _C:
        def names(self: object) -> List[str]:
            return [name for name in object.__dir__(self) if name not in hints]

        for name, hint in hints.items():
            setattr(cls, name, _Habit(name, hint))
        setattr(cls, "__dir__", names)  # noqa: B010
        setattr(cls, "__getitem__", _refuse_subscript)  # noqa: B010
        return cls

    return with_hints


def _refuse_subscript(instance: object, key: object) -> NoReturn:
    message = f"{type(instance).__name__!r} object is not subscriptable"
    if isinstance(key, str) and key.isidentifier():
        message += f": it has attributes, so write .{key} instead of [{key!r}]"
    raise TypeError(message)
