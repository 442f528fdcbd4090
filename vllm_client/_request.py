"""Keyword arguments of a method → the JSON body of a request and the options of its call."""

from __future__ import annotations

import functools
import inspect
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    List,
    Mapping,
    NoReturn,
    Optional,
    Tuple,
    TypeVar,
    cast,
)

from .params import LAST_VERSIONS, REPLACED, RequestOptions, names
from .types._json import JsonObject
from .types.shared import JSONValue

_OPTIONS = frozenset(names(RequestOptions))
_F = TypeVar("_F", bound=Callable[..., Any])


def takes(params: type) -> Callable[[_F], _F]:
    """Show the fields of a TypedDict in the signature of a method that takes ``**params``.

    ``inspect.signature``, ``help()`` and Shift-Tab in a notebook then name every field. The method
    takes ``*positional`` too, only to explain that it takes keywords; the signature hides it.
    """

    def with_signature(method: _F) -> _F:
        written = inspect.signature(method)
        shown = [
            parameter
            for parameter in written.parameters.values()
            if parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        ]
        hints = params.__annotations__
        # The options of the call follow the fields of the body.
        shown += [_keyword(name, hints[name]) for name in sorted(hints, key=_OPTIONS.__contains__)]
        signature = written.replace(parameters=shown)
        method.__signature__ = signature  # type: ignore[attr-defined]
        return method

    return with_signature


def _keyword(name: str, hint: object) -> inspect.Parameter:
    # With postponed evaluation, a TypedDict keeps a ForwardRef of each annotation's source.
    source = getattr(hint, "__forward_arg__", hint)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=..., annotation=source)


def refuse_positional(method: str, example: str) -> NoReturn:
    """Explain to the caller of ``method("Hello")`` that it takes keywords.

    Raises:
        TypeError: Always.
    """
    raise TypeError(
        f"{method}() takes keyword arguments only: write {method}({example}), as in the API of vLLM"
    )


@functools.cache
def _known(params: type) -> FrozenSet[str]:
    return frozenset(names(params))


def split(method: str, given: Any, params: type) -> Tuple[JsonObject, RequestOptions]:
    """Split the keyword arguments of a call into the JSON body and the options of the call.

    Args:
        method: The name of the called method, for messages.
        given: The keyword arguments, a dict; ``extra_headers`` is taken out of it.
        params: The TypedDict of the fields that the method takes.

    Raises:
        TypeError: An argument is not a field; the message suggests the nearest one.
    """
    if not given.keys() <= _known(params):
        raise TypeError(_unknown(method, next(n for n in given if n not in _known(params)), params))
    body: JsonObject = {}
    options: Dict[str, Any] = {}
    for name, value in given.items():
        (options if name in _OPTIONS else body)[name] = value
    given.pop("extra_headers", None)  # May be secret: whoever logs the caller's frame sees none.
    extra = options.pop("extra_body", None)
    if extra is not None:
        body.update(_checked_extra(extra))
    return body, cast("RequestOptions", options)


def _checked_extra(extra: object) -> Mapping[str, JSONValue]:
    if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
        raise TypeError(f"extra_body must be a dict of fields, not {type(extra).__name__}")
    if "stream" in extra:
        raise ValueError("extra_body cannot contain 'stream': call create() or stream() instead")
    for name in REPLACED:
        if name in extra:
            raise TypeError(f"extra_body contains {name!r}: {_replacement(name)}")
    return extra


def _replacement(name: str) -> str:
    return f"vLLM after {LAST_VERSIONS[name]} ignores it, use {REPLACED[name]} instead"


def _unknown(method: str, name: str, params: type) -> str:
    text = f"{method}() got an unexpected keyword argument {name!r}"
    if name in REPLACED:
        return f"{text}: {_replacement(name)}"
    import difflib  # noqa: PLC0415 — only a misspelt argument needs it

    near: List[str] = difflib.get_close_matches(name, names(params), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return (
        f"{text}{hint} (vLLM would ignore it silently; "
        f"pass a field that this version does not know in extra_body={{{name!r}: …}})"
    )


def streamed(body: JsonObject) -> JsonObject:
    """The body of the same request as a stream, which asks for usage unless the caller decided.

    Raises:
        ValueError: vLLM does not stream such a request.
    """
    for name, what in (("use_beam_search", "beam search"), ("prompt_logprobs", "prompt_logprobs")):
        value = body.get(name)
        # Numbers only: testing a NumPy array for truth raises.
        if isinstance(value, (int, float)) and value != 0:
            raise ValueError(f"{what} cannot be streamed: call create() without stream")
    body.setdefault("stream_options", {"include_usage": True})
    return {**body, "stream": True}


def expected_choices(body: JsonObject) -> int:
    """How many choices the server will finish: prompts × ``n``, of the body as it is sent."""
    prompts = _count(body.get("prompt")) + _count(body.get("prompt_embeds"))
    try:
        outputs = int(body.get("n") or 1)  # The server reads "2" as 2.
    except (TypeError, ValueError, OverflowError):
        outputs = 1
    return max(prompts, 1) * max(outputs, 1)


def _count(prompt: JSONValue) -> int:
    if prompt is None:
        return 0
    if isinstance(prompt, (list, tuple)) and not (prompt and isinstance(prompt[0], (int, float))):
        return len(prompt)
    return 1


def answer_type_of(body: JsonObject) -> Optional[type]:
    """The class in ``response_format``, which its JSON schema replaces; None if there is none.

    Raises:
        TypeError: It is no dict, and no class that has a JSON schema.
        ImportError: The library that reads this kind of class is not installed.
        ValueError: The request asks for texts that are not JSON alone.
    """
    wanted = body.get("response_format")
    if wanted is None or isinstance(wanted, Mapping):
        return None
    from . import _structured  # noqa: PLC0415 — few programs use it

    body["response_format"] = _structured.response_format(wanted)
    check_alone(body)
    answer_type: type = wanted
    return answer_type


def check_alone(body: JsonObject) -> None:
    """Refuse a request whose texts are read as JSON and would have more than that in them.

    Raises:
        ValueError: It is such a request.
    """
    if body.get("echo") is True:
        raise ValueError("echo puts the prompt before the text, which then fits no class: omit it")
