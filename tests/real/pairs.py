"""Checks: ``collect()`` and ``create()`` give the same, over many combinations of fields."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from .fields import both
from .samples import CALL, END_OF_THINKING, HELLO, NO_THINKING, TOKENS, WEATHER
from .servers import Server
from .table import check

Fields = Dict[str, Any]

_TEXTS: Dict[str, Fields] = {
    "greedy": {"prompt": "One, two", "temperature": 0},
    "seed": {"prompt": "The answer is", "seed": 7},
    "n=3": {"prompt": [11, 12, 13], "seed": 7, "n": 3},
    "two prompts": {"prompt": ["One", "Weather in"], "temperature": 0},
    "two prompts, n=2": {"prompt": [[20, 21], [30]], "seed": 9, "n": 2},
}
_TEXT_EXTRAS: Dict[str, Fields] = {
    "": {},
    "stop": {"stop": ["e", "the"]},
    "stop kept": {"stop": ["e", "the"], "include_stop_str_in_output": True},
    "stop token": {"stop_token_ids": list(TOKENS[200:])},
    "logprobs": {"logprobs": 3},
    "logprobs=0, stop": {"logprobs": 0, "stop": ["e"]},
    "token ids": {"return_token_ids": True},
    "token ids, logprobs": {"return_token_ids": True, "logprobs": 1},
    "tokens as ids": {"return_tokens_as_token_ids": True, "logprobs": 2},
    "echo": {"echo": True},
    "echo, logprobs": {"echo": True, "logprobs": 1},
    "echo, token ids": {"echo": True, "return_token_ids": True},
    "regex": {"structured_outputs": {"regex": "[a-z]{3} [0-9]{2}"}},
    "json": {"structured_outputs": {"json": {"enum": ["Paris", "Oslo"]}}, "logprobs": 0},
    "interval": {"stream_interval": 5, "logprobs": 1},
}

_CHATS: Dict[str, Fields] = {
    "greedy": {"temperature": 0},
    "seed": {"seed": 7},
    "n=3": {"seed": 7, "n": 3},
}
_ANSWER: Fields = {"messages": [*HELLO, {"role": "assistant", "content": "It is"}]}
_CHAT_EXTRAS: Dict[str, Fields] = {
    "": {},
    "no thinking": NO_THINKING,
    "stop": {"stop": ["e", "the"]},
    "logprobs": {"logprobs": True},
    "top logprobs, token ids": {"logprobs": True, "top_logprobs": 2, "return_token_ids": True},
    "token ids": {"return_token_ids": True},
    "no reasoning": {"include_reasoning": False},
    "thinking ends": {"logit_bias": {END_OF_THINKING: 4.0}, "return_token_ids": True},
    "regex": {"structured_outputs": {"regex": "[a-z]{3}"}, **NO_THINKING},
    "json": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "city", "schema": {"enum": ["Paris", "Oslo"]}},
        },
        **NO_THINKING,
    },
    "continued": {**_ANSWER, "add_generation_prompt": False, "continue_final_message": True},
    "continued, echo": {
        **_ANSWER,
        "add_generation_prompt": False,
        "continue_final_message": True,
        "echo": True,
    },
    "interval": {"stream_interval": 5},
}
_NAMED = {"type": "function", "function": {"name": "get_weather"}}
_STRICT = {"type": "function", "function": {**WEATHER["function"], "strict": True}}  # type: ignore[dict-item]
_TOOL_EXTRAS: Dict[str, Fields] = {
    "tools, none": {"tools": [WEATHER], "tool_choice": "none"},
    "tools, auto without a call": {"tools": [WEATHER]},
    "tools, auto": {"tools": [WEATHER], "structured_outputs": {"regex": CALL}, **NO_THINKING},
    "tools, auto, two calls": {
        "tools": [WEATHER],
        "structured_outputs": {"regex": f"{CALL}\\n{CALL}"},
        **NO_THINKING,
    },
    "tools, auto, not parallel": {
        "tools": [WEATHER],
        "structured_outputs": {"regex": f"{CALL}\\n{CALL}"},
        "parallel_tool_calls": False,
        **NO_THINKING,
    },
    "tools, auto, token ids": {
        "tools": [WEATHER],
        "structured_outputs": {"regex": CALL},
        "return_token_ids": True,
        "logprobs": True,
        **NO_THINKING,
    },
    "tools, required": {"tools": [WEATHER], "tool_choice": "required", **NO_THINKING},
    "tools, required, strict": {"tools": [_STRICT], "tool_choice": "required", **NO_THINKING},
    "tools, named": {"tools": [WEATHER], "tool_choice": _NAMED, **NO_THINKING},
    "tools, named, strict": {"tools": [_STRICT], "tool_choice": _NAMED, **NO_THINKING},
}


def _register(route: str, name: str, fields: Fields, *kinds: str) -> None:
    @check(f"stream and whole of {route}", name, *kinds)
    def run(server: Server) -> None:
        both(server, route, fields)


def _combined(ways: Dict[str, Fields], extras: Dict[str, Fields]) -> Dict[str, Fields]:
    pairs: Dict[Tuple[str, str], Fields] = {
        (way, extra): {**ways[way], **extras[extra]} for way in ways for extra in extras
    }
    return {f"{way}; {extra}" if extra else way: fields for (way, extra), fields in pairs.items()}


def _kills_lora(fields: Fields) -> bool:
    """Whether vLLM 0.32 with ``--enable-lora`` dies of it, on a CPU.

    It does when several outputs want the log-probabilities of a prompt; echo in a chat does so too.
    """
    several = "n" in fields or fields.get("prompt") == _TEXTS["two prompts"]["prompt"]
    return several and "echo" in fields and ("logprobs" in fields or "messages" in fields)


for _name, _fields in _combined(_TEXTS, _TEXT_EXTRAS).items():
    _kinds = ("plain",) if _kills_lora(_fields) else ("plain", "lora")
    _register("completions", _name, {"max_tokens": 24, **_fields}, *_kinds)
for _name, _fields in _combined(_CHATS, _CHAT_EXTRAS).items():
    _body = {"messages": HELLO, "max_tokens": 24, **_fields}
    _kinds = ("plain", "parsers") if _kills_lora(_body) else ("plain", "parsers", "lora")
    _register("chat", _name, _body, *_kinds)
for _name, _fields in _combined(_CHATS, _TOOL_EXTRAS).items():
    _register("chat", _name, {"messages": HELLO, "max_tokens": 200, **_fields}, "parsers")
