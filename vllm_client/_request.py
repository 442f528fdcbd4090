"""Keyword arguments of a method → the JSON body of a request and the options of its call."""

from __future__ import annotations

import functools
import inspect
import re
from numbers import Number
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    List,
    Mapping,
    Match,
    NoReturn,
    Optional,
    Tuple,
    TypeVar,
    cast,
)

from .params import LAST_VERSIONS, REPLACED, RequestOptions, names
from .params.documentation import documentation
from .types._json import JsonObject
from .types.shared import JSONValue

_OPTIONS = frozenset(names(RequestOptions))
_FIRST = ("messages", "prompt", "input", "model", "max_tokens", "temperature", "stop")
"""The fields that stand first in signatures. Others have the order of their TypedDict."""
_PARAMS_ENTRY = re.compile(r"^( *)\*\*params: .*(?:\n\1 +.*)*", re.MULTILINE)
_PLAIN = frozenset({str, int, float, bool, type(None), list, dict, tuple})
_F = TypeVar("_F", bound=Callable[..., Any])


def takes(params: type) -> Callable[[_F], _F]:
    """Show the fields of a TypedDict in the signature and the docstring of a method.

    The method takes ``**params``. ``inspect.signature``, ``help()`` and Shift-Tab in a notebook
    then name and explain every field. The method takes ``*positional`` too, only to explain that it
    takes keywords; the signature hides it.
    """

    def with_signature(method: _F) -> _F:
        signature = _signature(method, params)
        method.__signature__ = signature  # type: ignore[attr-defined]
        if method.__doc__ is not None:  # It is None with `python -OO`.
            method.__doc__ = _docstring(method.__doc__, signature, params)
        return method

    return with_signature


def _signature(method: Callable[..., Any], params: type) -> inspect.Signature:
    written = inspect.signature(method)
    hints = params.__annotations__
    parameters = list(written.parameters.values())
    positional = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    keywords = [each for each in parameters if each.kind is each.KEYWORD_ONLY]
    keywords += [_keyword(name, hints[name]) for name in hints]
    shown = positional + sorted(keywords, key=lambda keyword: _place(keyword.name))
    return written.replace(parameters=shown)


def _place(name: str) -> int:
    """Where a keyword stands: first what everybody sets, last the options of the call."""
    if name in _FIRST:
        return _FIRST.index(name) - len(_FIRST)
    return int(name in _OPTIONS)


def _docstring(written: str, signature: inspect.Signature, params: type) -> str:
    """The docstring with the documentation of each field in the place of that of ``**params``."""
    documented = documentation(params)

    def entries(found: Match[str]) -> str:
        indent = found[1]
        return "\n".join(
            f"{indent}{name}: " + documented[name].replace("\n    ", f"\n{indent}    ")
            for name in signature.parameters
            if name in documented
        )

    return _PARAMS_ENTRY.sub(entries, written, 1) if documented else written


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
    if not _PLAIN.issuperset(map(type, body.values())):
        body = {name: _plain(value) for name, value in body.items()}
    given.pop("extra_headers", None)  # May be secret: whoever logs the caller's frame sees none.
    extra = options.pop("extra_body", None)
    if extra is not None:
        body.update(_checked_extra(extra))
    return body, cast("RequestOptions", options)


def _plain(value: Any) -> Any:
    """A column of pandas or an array as a list, so that its items can be counted."""
    is_column = hasattr(value, "tolist") and not isinstance(value, type)
    return value.tolist() if is_column else value


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
    if isinstance(prompt, (list, tuple)) and not (prompt and isinstance(prompt[0], Number)):
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
