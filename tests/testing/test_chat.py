"""Chat responses of the fake server: content, reasoning and tool calls."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from vllm_client.testing import FakeServer, pytest_plugin

fake_vllm = pytest_plugin.fake_vllm

WAIT = 10.0
MESSAGES = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time"}}
TOOLS = [TIME, WEATHER]
BOTH = [{"role": "user", "content": "Time and weather in Oslo, please"}]
NAMED = {"type": "function", "function": {"name": "get_time"}}
THINK = {"chat_template_kwargs": {"enable_thinking": True}}


def ask(server: FakeServer, **body: Any) -> tuple[int, Any]:
    """Send a chat request; return the status, and the JSON or the data of each SSE event."""
    connection = http.client.HTTPConnection(server.url[len("http://") :], timeout=WAIT)
    sent = json.dumps({"messages": MESSAGES, **body})
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", sent, headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    if (response.headers["content-type"] or "").startswith("text/event-stream"):
        return response.status, [each[len("data: ") :] for each in text.split("\n\n") if each]
    return response.status, json.loads(text)


def choice(server: FakeServer, **body: Any) -> dict[str, Any]:
    """The first choice of a response that is not streamed."""
    status, answer = ask(server, **body)
    assert status == 200, answer
    return answer["choices"][0]


def message(server: FakeServer, **body: Any) -> dict[str, Any]:
    """The message of the first choice."""
    return choice(server, **body)["message"]


def events(server: FakeServer, **body: Any) -> list[dict[str, Any]]:
    """The events of a stream, which must end in [DONE]."""
    status, data = ask(server, stream=True, **body)
    assert status == 200, data
    assert data[-1] == "[DONE]"
    return [json.loads(each) for each in data[:-1]]


def streamed(server: FakeServer, **body: Any) -> list[dict[str, Any]]:
    """The choice of each event of a stream, for the first choice only."""
    found = (each for event in events(server, **body) for each in event["choices"])
    return [each for each in found if each["index"] == 0]


def joined(choices: list[dict[str, Any]], name: str) -> str:
    """The texts that the deltas have under a key, joined."""
    return "".join(each["delta"].get(name) or "" for each in choices)


def called(answer: dict[str, Any]) -> list[tuple[str, Any]]:
    """The names and decoded arguments of the tool calls of a message."""
    functions = [call["function"] for call in answer.get("tool_calls", [])]
    return [(each["name"], json.loads(each["arguments"])) for each in functions]


# --- content ----------------------------------------------------------------------------------


def test_an_answer_keeps_to_the_last_question(fake_vllm: FakeServer) -> None:
    """The content begins without a space and with the subject of the last user message."""
    asked = [*MESSAGES, {"role": "assistant", "content": "Mild."}]
    asked.append({"role": "user", "content": "And what is a neural network?"})
    answer = message(fake_vllm, messages=asked, temperature=0)
    assert answer["content"].startswith("A neural network is")


def test_an_answer_goes_on_to_its_end(fake_vllm: FakeServer) -> None:
    """Without ``max_tokens`` the content stops by itself or at the context length."""
    assert choice(fake_vllm)["finish_reason"] == "stop"
    with FakeServer(max_model_len=64) as server:
        _, answer = ask(server, ignore_eos=True)
        assert answer["usage"]["total_tokens"] == 64


def test_max_completion_tokens_takes_precedence(fake_vllm: FakeServer) -> None:
    """``max_completion_tokens`` takes precedence over ``max_tokens``."""
    _, answer = ask(fake_vllm, max_completion_tokens=2, max_tokens=9)
    assert answer["usage"]["completion_tokens"] == 2


def test_a_stream_opens_with_the_role(fake_vllm: FakeServer) -> None:
    """Each choice begins with its role and empty content; then the choices alternate."""
    found = [event["choices"][0] for event in events(fake_vllm, n=2, max_tokens=2)]
    assert [each["index"] for each in found] == [0, 1, 0, 1, 0, 1]
    assert [each["delta"] for each in found[:2]] == [{"role": "assistant", "content": ""}] * 2


def test_a_stream_adds_up(fake_vllm: FakeServer) -> None:
    """Requests with the same seed get the same content, for every ``stream_interval``."""
    whole = message(fake_vllm, seed=3)["content"]
    assert joined(streamed(fake_vllm, seed=3), "content") == whole
    assert joined(streamed(fake_vllm, seed=3, stream_interval=5), "content") == whole


def test_choices_differ(fake_vllm: FakeServer) -> None:
    """The choices of a request have different contents."""
    _, answer = ask(fake_vllm, n=3)
    assert len({each["message"]["content"] for each in answer["choices"]}) == 3


def test_usage_is_streamed_on_request(fake_vllm: FakeServer) -> None:
    """With ``continuous_usage_stats`` each event has usage, beginning with 0 tokens."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    counts = [
        event["usage"]["completion_tokens"]
        for event in events(fake_vllm, max_tokens=3, stream_options=options)
    ]
    assert counts == [0, 1, 2, 3, 3]


def test_media_count_as_tokens(fake_vllm: FakeServer) -> None:
    """Text parts are part of the prompt; each other part counts as 16 prompt tokens."""
    words = {"type": "text", "text": "What is a neural network?"}
    picture = {"type": "image_url", "image_url": {"url": "http://localhost/x.png"}}
    _, plain = ask(fake_vllm, messages=[{"role": "user", "content": [words]}], temperature=0)
    _, seen = ask(fake_vllm, messages=[{"role": "user", "content": [words, picture]}])
    assert plain["choices"][0]["message"]["content"].startswith("A neural network")
    assert seen["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"] + 16


def test_the_prompt_can_be_returned(fake_vllm: FakeServer) -> None:
    """``return_prompt_text`` returns the prompt made by the chat template."""
    asked = {"messages": [{"role": "user", "content": "Hi"}], "return_prompt_text": True}
    _, answer = ask(fake_vllm, **asked)
    expected = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert answer["prompt_text"] == expected
    assert events(fake_vllm, **asked)[0]["prompt_text"] == expected
    _, bare = ask(fake_vllm, **asked, add_generation_prompt=False)
    assert bare["prompt_text"] == "<|im_start|>user\nHi<|im_end|>\n"


def test_an_answer_can_be_continued(fake_vllm: FakeServer) -> None:
    """With ``echo`` the content begins with the message that is continued."""
    asked = [*MESSAGES, {"role": "assistant", "content": "Well,"}]
    body = {"messages": asked, "echo": True, "add_generation_prompt": False, "seed": 1}
    whole = message(fake_vllm, continue_final_message=True, **body)["content"]
    assert whole.startswith("Well,")
    found = streamed(fake_vllm, continue_final_message=True, **body)
    assert joined(found, "content") == whole


def test_a_user_message_is_not_echoed(fake_vllm: FakeServer) -> None:
    """``echo`` repeats only a last message of the assistant."""
    assert message(fake_vllm, echo=True, seed=1) == message(fake_vllm, seed=1)


def test_logprobs_name_the_likeliest(fake_vllm: FakeServer) -> None:
    """Each token has its bytes and ``top_logprobs`` likeliest tokens, by default none."""
    [first, *_] = choice(fake_vllm, logprobs=True, top_logprobs=2)["logprobs"]["content"]
    assert bytes(first["bytes"]).decode() == first["token"]
    assert len(first["top_logprobs"]) == 2
    [bare, *_] = choice(fake_vllm, logprobs=True)["logprobs"]["content"]
    assert bare["top_logprobs"] == []


def test_structured_outputs_work_in_a_chat(fake_vllm: FakeServer) -> None:
    """A constraint applies to the content."""
    assert message(fake_vllm, structured_outputs={"choice": ["yes"]})["content"] == "yes"


def test_half_a_character_is_skipped(fake_vllm: FakeServer) -> None:
    """A token without text sends no event, unless the request asks for token ids."""
    fake_vllm.enqueue(text="\u00e9", times=2)
    assert [each["delta"] for each in streamed(fake_vllm)[1:]] == [{"content": "\u00e9"}, {}]
    found = streamed(fake_vllm, return_token_ids=True)[1:]
    assert [each["delta"] for each in found] == [{}, {"content": "\u00e9"}, {}]


# --- reasoning --------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [THINK, {"reasoning_effort": "low"}])
def test_reasoning_comes_before_content(fake_vllm: FakeServer, more: dict[str, Any]) -> None:
    """With thinking enabled, reasoning precedes content, without the marker between them."""
    answer = message(fake_vllm, seed=1, **more)
    assert MESSAGES[0]["content"] in answer["reasoning"]
    assert answer["content"] == message(fake_vllm, seed=1)["content"]
    found = streamed(fake_vllm, seed=1, **more)
    assert joined(found, "reasoning") == answer["reasoning"]
    assert joined(found, "content") == answer["content"]
    shown = [set(each["delta"]) for each in found[1:-1]]
    assert shown == sorted(shown, key=lambda names: names == {"content"})


@pytest.mark.parametrize(
    "more", [{"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}]
)
def test_no_reasoning_unless_asked_for(fake_vllm: FakeServer, more: dict[str, Any]) -> None:
    """With thinking disabled, there is no reasoning."""
    assert message(fake_vllm, **more)["reasoning"] is None


def test_reasoning_can_be_withheld(fake_vllm: FakeServer) -> None:
    """Without ``include_reasoning`` usage counts the reasoning, but it is not sent."""
    body = {**THINK, "include_reasoning": False, "return_token_ids": True, "logprobs": True}
    _, answer = ask(fake_vllm, **body)
    [only] = answer["choices"]
    assert only["message"]["reasoning"] is None
    counted = answer["usage"]["completion_tokens"]
    reasoning = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert len(only["token_ids"]) == len(only["logprobs"]["content"]) == counted - reasoning
    assert joined(streamed(fake_vllm, **body), "reasoning") == ""


def test_reasoning_may_take_all_the_room(fake_vllm: FakeServer) -> None:
    """If ``max_tokens`` ends the reasoning, the content is null."""
    found = choice(fake_vllm, max_tokens=4, **THINK)
    assert found["message"]["content"] is None
    assert found["finish_reason"] == "length"


def test_the_end_of_reasoning_is_a_token(fake_vllm: FakeServer) -> None:
    """With token ids, the marker after the reasoning is an event and counts as reasoning."""
    fake_vllm.enqueue(reasoning="Well", text="Yes")
    body = {"return_token_ids": True, "stream_options": {"include_usage": True}}
    *found, last = events(fake_vllm, **body)
    deltas = [event["choices"][0]["delta"] for event in found]
    assert {} in deltas[1:-1]
    details = last["usage"]["completion_tokens_details"]
    assert (
        details["reasoning_tokens"]
        == len(deltas[1:]) - len([delta for delta in deltas[1:] if "content" in delta]) - 1
    )


# --- tool calls -------------------------------------------------------------------------------


def test_a_tool_that_is_mentioned_is_called(fake_vllm: FakeServer) -> None:
    """With ``auto`` a tool is called if the question has a word of its name or description."""
    found = choice(fake_vllm, tools=TOOLS)
    assert called(found["message"]) == [("get_weather", {"city": "Paris", "days": 1})]
    assert found["message"]["content"] is None
    assert found["finish_reason"] == "tool_calls"


def test_an_unmentioned_tool_is_not_called(fake_vllm: FakeServer) -> None:
    """No tool is called with ``none``, or with ``auto`` if the question mentions no tool."""
    hello = [{"role": "user", "content": "Hello"}]
    assert "tool_calls" not in message(fake_vllm, tools=TOOLS, messages=hello)
    assert message(fake_vllm, tools=TOOLS, tool_choice="none")["content"]


def test_the_answer_of_a_tool_ends_the_calls(fake_vllm: FakeServer) -> None:
    """After the result of a tool, the response is content."""
    first = message(fake_vllm, tools=TOOLS)
    result = {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "Mild"}
    asked = [*MESSAGES, {name: first[name] for name in ("role", "content", "tool_calls")}, result]
    found = choice(fake_vllm, tools=TOOLS, messages=asked)
    assert found["message"]["content"]
    assert found["finish_reason"] == "stop"


def test_required_always_calls_a_tool(fake_vllm: FakeServer) -> None:
    """With ``required`` the first tool is called if the question mentions none."""
    hello = [{"role": "user", "content": "Hello"}]
    found = choice(fake_vllm, tools=TOOLS, tool_choice="required", messages=hello)
    assert called(found["message"]) == [("get_time", {})]
    assert found["message"]["content"] == ""
    assert found["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_a_named_function_ends_in_stop(fake_vllm: FakeServer, stream: bool) -> None:
    """A named function is always called, and the finish reason is ``stop``."""
    body = {"tools": TOOLS, "tool_choice": NAMED}
    found = streamed(fake_vllm, **body)[-1] if stream else choice(fake_vllm, **body)
    assert found["finish_reason"] == "stop"
    if not stream:
        assert called(found["message"]) == [("get_time", {})]


def collected(found: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The tool calls of a stream by index, each with its arguments joined."""
    calls: dict[int, dict[str, Any]] = {}
    for part in (part for each in found for part in each["delta"].get("tool_calls", [])):
        call = calls.setdefault(part["index"], {"arguments": "", **part})
        call["arguments"] += part["function"].get("arguments", "")
    return calls


@pytest.mark.parametrize("more", [{}, {"stream_interval": 7}])
def test_calls_are_streamed_in_pieces(fake_vllm: FakeServer, more: dict[str, Any]) -> None:
    """A streamed call begins with id, type and name; its arguments follow by index."""
    found = streamed(fake_vllm, tools=TOOLS, messages=BOTH, **more)
    calls = collected(found)
    assert [call["function"]["name"] for call in calls.values()] == ["get_time", "get_weather"]
    assert all(call["id"].startswith("chatcmpl-tool-") for call in calls.values())
    assert json.loads(calls[1]["arguments"]) == {"city": "please", "days": 1}
    assert found[-1]["finish_reason"] == "tool_calls"


def test_parallel_calls_can_be_dropped(fake_vllm: FakeServer) -> None:
    """Without ``parallel_tool_calls`` only the first call is sent; others send null content."""
    body = {"tools": TOOLS, "messages": BOTH, "parallel_tool_calls": False}
    assert [name for name, _ in called(message(fake_vllm, **body))] == ["get_time"]
    found = streamed(fake_vllm, **body)
    assert list(collected(found)) == [0]
    assert {"content": None} in [each["delta"] for each in found]


def test_an_unfinished_call_comes_back_as_text(fake_vllm: FakeServer) -> None:
    """If ``max_tokens`` cuts a call, it is sent as text, or with cut arguments if forced."""
    found = choice(fake_vllm, tools=TOOLS, max_tokens=24)
    assert found["message"]["content"].startswith('<tool_call>\n{"name": "get_weather"')
    assert "tool_calls" not in found["message"]
    assert found["finish_reason"] == "length"
    forced = message(fake_vllm, tools=TOOLS, max_tokens=24, tool_choice="required")
    assert "{" in forced["tool_calls"][0]["function"]["arguments"]
    with pytest.raises(ValueError, match="line 1"):
        called(forced)


def test_half_a_character_in_a_call_is_skipped(fake_vllm: FakeServer) -> None:
    """Streamed arguments contain only complete characters."""
    fake_vllm.enqueue(tool_calls=[{"name": "f", "arguments": '{"a": "\u4e16"}'}])
    [call] = collected(streamed(fake_vllm, tools=TOOLS)).values()
    assert json.loads(call["arguments"]) == {"a": "\u4e16"}


def test_reasoning_may_end_in_a_call(fake_vllm: FakeServer) -> None:
    """A response may contain reasoning and a call without content."""
    answer = message(fake_vllm, tools=TOOLS, **THINK)
    assert answer["reasoning"]
    assert answer["content"] is None
    assert called(answer)


# --- scripts ----------------------------------------------------------------------------------


def test_a_scripted_text_is_the_content(fake_vllm: FakeServer) -> None:
    """A scripted text is the content, whatever the limits of the request."""
    fake_vllm.enqueue(text="Exactly this.", times=2)
    found = choice(fake_vllm, max_tokens=1)
    assert (found["message"]["content"], found["finish_reason"]) == ("Exactly this.", "stop")
    assert joined(streamed(fake_vllm, max_tokens=1), "content") == "Exactly this."


def test_scripted_calls_need_no_tools(fake_vllm: FakeServer) -> None:
    """Scripted calls are sent unchanged, with arguments as an object or as text."""
    calls = [
        {"name": "f", "arguments": {"a": 1}, "id": "call_1"},
        {"name": "g", "arguments": "not JSON"},
        {"name": "h"},
    ]
    fake_vllm.enqueue(tool_calls=calls)
    found = choice(fake_vllm)
    functions = [call["function"] for call in found["message"]["tool_calls"]]
    assert [each["arguments"] for each in functions] == ['{"a": 1}', "not JSON", "{}"]
    assert found["message"]["tool_calls"][0]["id"] == "call_1"
    assert found["message"]["content"] is None
    assert found["finish_reason"] == "tool_calls"


def test_everything_can_be_scripted_at_once(fake_vllm: FakeServer) -> None:
    """A script may set reasoning, text, calls and the finish reason together."""
    fake_vllm.enqueue(reasoning="Hm.", text="So:", tool_calls=[{"name": "f"}], finish_reason="stop")
    found = choice(fake_vllm)
    assert found["message"]["reasoning"] == "Hm."
    assert found["message"]["content"] == "So:"
    assert called(found["message"]) == [("f", {})]
    assert found["finish_reason"] == "stop"


def test_a_chat_can_be_aborted(fake_vllm: FakeServer) -> None:
    """``abort_after`` aborts a chat choice, unless it is shorter."""
    fake_vllm.enqueue(text="Machine learning is fun.", abort_after=2)
    fake_vllm.enqueue(text="Yes", abort_after=9)
    found = streamed(fake_vllm)
    assert joined(found, "content") == "Machine learning"
    assert (found[-1]["delta"], found[-1]["finish_reason"]) == ({}, "abort")
    assert choice(fake_vllm)["finish_reason"] == "stop"


# --- refusals that no capture shows -----------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"tools": []}, "`tools` must not be an empty array."),
        ({"tools": TOOLS, "tool_choice": "any"}, "Invalid value for `tool_choice`: any!"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "does not match any"),
        (
            {"tools": TOOLS, "tool_choice": NAMED, "structured_outputs": {"json": {}}},
            "You can only either use constraints for structured outputs or tools, not both.",
        ),
        ({"top_logprobs": -2}, "`top_logprobs` must be a positive value or -1."),
        ({"logprobs": True, "top_logprobs": 21}, "Requested sample logprobs of 21"),
        ({"messages": ["Hi"]}, "Field required"),
        ({"messages": [{"role": "user", "content": ["Hi"]}]}, "Input should be a valid string"),
        ({"tools": [{"type": "function"}]}, "Input should be a valid dictionary"),
        ({"tools": [{"function": {"name": 5}}]}, "Input should be a valid string"),
    ],
)
def test_it_refuses(fake_vllm: FakeServer, body: dict[str, Any], text: str) -> None:
    """An invalid request gets a 400 whose message names the reason."""
    status, answer = ask(fake_vllm, **body)
    assert status == 400
    assert text in answer["error"]["message"]
