"""Keyword arguments → the JSON body that is sent, and what is refused before it is."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, Mapping, Tuple, TypeVar

from .params import REPLACED, RequestOptions, names

_OPTIONS = frozenset(names(RequestOptions))
_F = TypeVar("_F", bound=Callable[..., Any])


def takes(params: type) -> Callable[[_F], _F]:
    """Give a method that takes ``**params`` the signature its TypedDict stands for.

    So ``inspect.signature``, ``help()`` and Shift-Tab in a notebook name every field.
    """

    def with_signature(method: _F) -> _F:
        written = inspect.signature(method)
        shown = list(written.parameters.values())[:-1]
        hints = params.__annotations__
        # What belongs to the call comes behind the fields of its body.
        shown += [_keyword(name, hints[name]) for name in sorted(hints, key=_OPTIONS.__contains__)]
        signature = written.replace(parameters=shown)
        method.__signature__ = signature  # type: ignore[attr-defined]
        return method

    return with_signature


def _keyword(name: str, hint: Any) -> inspect.Parameter:
    # With postponed evaluation a TypedDict keeps ForwardRefs of what its source says.
    said = getattr(hint, "__forward_arg__", hint)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=..., annotation=said)


def split(
    method: str, given: Mapping[str, Any], params: type
) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Part what a caller gave into the JSON body and the options of the call.

    Raises:
        TypeError: A name is no field; the message has the nearest one.
    """
    known = names(params)
    for name in given:
        if name not in known:
            raise TypeError(_unknown(method, name, known))
    body = {name: value for name, value in given.items() if name not in _OPTIONS}
    options = {name: value for name, value in given.items() if name in _OPTIONS}
    extra = options.pop("extra_body", None)
    if extra is not None:
        body.update(_checked_extra(extra))
    return body, options


def _checked_extra(extra: Any) -> Mapping[str, Any]:
    if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
        raise TypeError(f"extra_body has to be a dict of fields; it is {type(extra).__name__}")
    if "stream" in extra:
        raise ValueError("extra_body cannot hold 'stream': call create() or stream() instead")
    return extra


def _unknown(method: str, name: str, known: List[str]) -> str:
    text = f"{method}() got an unexpected keyword argument {name!r}"
    if name in REPLACED:
        return f"{text}: vLLM ignores it since 0.12, use {REPLACED[name]} instead"
    import difflib  # noqa: PLC0415 — where nothing is misspelt nobody needs it

    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return (
        f"{text}{hint} (vLLM would drop it without a word; "
        f"a field this version does not know goes into extra_body={{{name!r}: …}})"
    )


def check_completion(body: Mapping[str, Any]) -> None:
    """Refuse what the server is known to refuse, before it is asked.

    Raises:
        TypeError: There is no prompt.
        ValueError: A list of prompts is empty.
    """
    prompt = body.get("prompt")
    if prompt is None and body.get("prompt_embeds") is None:
        raise TypeError("a completion needs prompt=… (a text, a list of texts, or token ids)")
    if _is_empty(prompt):
        raise ValueError("prompt is an empty list: the server wants at least one prompt")


def check_chat(body: Mapping[str, Any]) -> None:
    """The same for a conversation.

    Raises:
        TypeError: There are no messages.
        ValueError: The list of them, or of tools, is empty.
    """
    messages = body.get("messages")
    if messages is None or isinstance(messages, (str, Mapping)):
        raise TypeError('a chat needs messages=[{"role": "user", "content": …}, …]')
    if _is_empty(messages):
        raise ValueError("messages is an empty list: the server wants at least one message")
    if _is_empty(body.get("tools")):
        raise ValueError("tools is an empty list: leave it out instead")


def forces_calls(body: Mapping[str, Any]) -> bool:
    """Whether the model is left no choice but to call a tool."""
    choice = body.get("tool_choice")
    return isinstance(choice, Mapping) or (isinstance(choice, str) and choice == "required")


def _is_empty(value: Any) -> bool:
    # Of the rest, arrays among it, the truth is not asked: encoded() names what is no JSON.
    return isinstance(value, (list, tuple)) and not value


def streamed(body: Dict[str, Any]) -> Dict[str, Any]:
    """The body of the same request as a stream, asking for usage unless told otherwise.

    Raises:
        ValueError: vLLM does not stream such a request.
    """
    if _is_on(body.get("use_beam_search")):
        raise ValueError("beam search cannot be streamed: call create() without stream")
    if _is_on(body.get("prompt_logprobs")):
        raise ValueError("prompt_logprobs cannot be streamed: call create() without stream")
    body.setdefault("stream_options", {"include_usage": True})
    return {**body, "stream": True}


def _is_on(value: Any) -> bool:
    # An array has no truth value; encoded() will say so with its field's name.
    return isinstance(value, (int, float)) and value != 0


def expected_choices(body: Mapping[str, Any]) -> int:
    """How many choices the server will finish: prompts × n, of the body as it is sent."""
    prompts = _count(body.get("prompt")) + _count(body.get("prompt_embeds"))
    try:
        # The server reads "2" as 2.
        outputs = int(body.get("n") or 1)
    except (TypeError, ValueError, OverflowError):
        outputs = 1
    return max(prompts, 1) * max(outputs, 1)


def _count(prompt: Any) -> int:
    if prompt is None:
        return 0
    if isinstance(prompt, (list, tuple)) and not (prompt and isinstance(prompt[0], (int, float))):
        return len(prompt)
    return 1
