"""``client.chat.completions.batch``: several conversations in one request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict

import pytest

from vllm_client import ChatCompletion, GenerationAbortedError, InvalidResponseError

from ..aio.conftest import run_with
from ..recorded import HELLO, capture, json_bytes
from ..servers import Serve


def choice(index: int, content: str = "Hi", finish: Any = "stop") -> Dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {"index": index, "message": message, "finish_reason": finish}


def test_real_batch(serve: Serve) -> None:
    """The captured batch has one choice for each conversation, and the request is the captured."""
    request, response = capture("chat_batch")
    served = serve(response)
    batch = served.client.chat.completions.batch(**request["body"])
    assert isinstance(batch, ChatCompletion)
    assert [each.message.content for each in batch.choices] == ["rø\ufffd milunit", "ris Привет"]
    assert batch.usage is not None
    assert batch.usage.completion_tokens == 8
    assert served.requests[0].path == request["path"]
    assert served.requests[0].json == request["body"]


def test_answer_that_is_missing(serve: Serve) -> None:
    """A batch is complete only if each conversation has a finished choice."""
    served = serve(
        json_bytes({"choices": [choice(0)]}),
        json_bytes({"choices": [choice(0), choice(1, finish=None)]}),
        json_bytes({"choices": [choice(0), choice(1, finish="abort")]}),
    )
    batch = served.client.chat.completions.batch
    for _ in range(2):
        with pytest.raises(InvalidResponseError, match="choice 1 has no finish reason") as raised:
            batch(messages=[HELLO, HELLO])
        assert raised.value.partial.text == "Hi"
    with pytest.raises(GenerationAbortedError):
        batch(messages=[HELLO, HELLO])


@dataclass
class Greeting:
    word: str


def test_each_answer_is_parsed(serve: Serve) -> None:
    """A class as ``response_format`` parses the answer to each conversation."""
    choices = [choice(0, '{"word": "Hi"}'), choice(1, '{"word": "Ho"}')]
    served = serve(json_bytes({"choices": choices}))
    batch = served.client.chat.completions.batch(messages=[HELLO, HELLO], response_format=Greeting)
    assert [each.parsed for each in batch.choices] == [Greeting("Hi"), Greeting("Ho")]


@pytest.mark.parametrize(
    ("fields", "error_class", "reason"),
    [
        ({}, TypeError, "a batch needs messages="),
        ({"messages": "Hi"}, TypeError, "a batch needs messages="),
        ({"messages": []}, ValueError, "at least one conversation"),
        ({"messages": HELLO}, TypeError, r"one conversation: call create\(\)"),
        ({"messages": [HELLO, []]}, ValueError, "at least one message"),
        ({"messages": [HELLO, "Hi"]}, TypeError, "a chat needs messages="),
        ({"messages": [HELLO], "n": 2}, ValueError, "a batch cannot have n above 1"),
        ({"messages": [HELLO], "tools": [{}]}, ValueError, "a batch cannot have tools"),
        ({"messages": [HELLO], "use_beam_search": True}, ValueError, "cannot have use_beam_search"),
        ({"messages": [HELLO], "max_token": 1}, TypeError, "did you mean 'max_tokens'"),
    ],
)
def test_what_the_route_does_not_take(
    serve: Serve, fields: Any, error_class: Any, reason: str
) -> None:
    """What the route does not take is refused with a reason, and nothing is sent."""
    served = serve(json_bytes({}))
    with pytest.raises(error_class, match=reason):
        served.client.chat.completions.batch(**fields)
    assert served.requests == []


def test_positional_argument(serve: Serve) -> None:
    """A positional argument gets an explanation."""
    with pytest.raises(TypeError, match=r"write batch\(messages=\[\[…\], \[…\]\]\)"):
        serve().client.chat.completions.batch([HELLO])  # type: ignore[arg-type]


def test_async_batch(serve: Serve) -> None:
    """The asynchronous client sends the same batch."""
    served = serve(json_bytes({"choices": [choice(0), choice(1, "Ho")]}))

    async def main(client: Any) -> Any:
        return await client.chat.completions.batch(messages=[HELLO, HELLO])

    assert [each.message.content for each in run_with(served, main).choices] == ["Hi", "Ho"]
