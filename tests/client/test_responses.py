"""``client.responses``: the request, the response that is not streamed, and stored responses."""

from __future__ import annotations

import pickle
from typing import Any, Callable, Dict, List

import pytest

import vllm_client
from vllm_client import (
    BadRequestError,
    GenerationAbortedError,
    InternalServerError,
    InvalidResponseError,
    NotFoundError,
    Response,
    ResponseToolCall,
    Usage,
)

from ..recorded import capture, json_bytes
from ..responses import call, message, reasoning, response
from ..servers import Serve


def test_create_sends_its_fields(serve: Serve) -> None:
    """The keywords are the body; what is omitted is not sent."""
    served = serve(capture("responses")[1])
    sent = capture("responses")[0]["body"]
    served.client.responses.create(**sent)
    assert (served.requests[0].method, served.requests[0].path) == ("POST", "/v1/responses")
    assert served.requests[0].json == sent
    served.client.responses.create(input="x", extra_body={"new": 1}, extra_headers={"X-A": "b"})
    assert served.requests[1].json == {"input": "x", "new": 1}
    assert served.requests[1].headers["x-a"] == "b"


def test_create_returns_the_captured_response(serve: Serve) -> None:
    """The response of a real server: ended by max_output_tokens, it is complete all the same."""
    whole = serve(capture("responses")[1]).client.responses.create(input="Say hi")
    assert (whole.id, whole.status, whole.model) == ("resp_b352cf2705669c22", "incomplete", "tiny")
    assert whole.incomplete_reason == "max_output_tokens"
    assert whole.text == '\ufffd\ufffd retur:tur"'
    assert (whole.reasoning, whole.refusal, whole.tool_calls) == (None, None, [])
    assert whole.usage is not None
    assert whole.usage == Usage(
        19, 6, 25, whole.raw["usage"]["input_tokens_details"], whole.usage.completion_tokens_details
    )
    assert whole.usage.completion_tokens_details == whole.raw["usage"]["output_tokens_details"]
    assert whole.output == whole.raw["output"]
    assert whole.created == whole.raw["created_at"] == 1795330102
    assert pickle.loads(pickle.dumps(whole)) == whole


def test_items_of_each_kind(serve: Serve) -> None:
    """Texts, reasoning, refusals and calls are found among the items."""
    refusing = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    items = [reasoning("Hm. "), message("One "), search, call('{"c": 1}'), message("two"), refusing]
    whole = serve(json_bytes(response(*items))).client.responses.create(input="x")
    assert (whole.reasoning, whole.text, whole.refusal) == ("Hm. ", "One two", "No.")
    assert whole.tool_calls == [
        ResponseToolCall("call_1", "temperature", '{"c": 1}', "fc_1", output_index=3)
    ]
    assert whole.tool_calls[0].raw == items[3]
    assert whole.usage == Usage(3, 4, 7)


def test_summary_of_reasoning() -> None:
    """A server that sends only a summary of the reasoning has this as the reasoning."""
    item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "In short"}]}
    assert Response.from_raw(response(item)).reasoning == "In short"


def test_result_of_a_tool_call(serve: Serve) -> None:
    """The output and the result of a call are the input of the next request."""
    served = serve(json_bytes(response(call('{"city": "Rome"}'))), json_bytes(response()))
    first = served.client.responses.create(input="Warm?")
    results = [one.result({"degrees": 17}) for one in first.tool_calls]
    assert first.tool_calls[0].parse_args() == {"city": "Rome"}
    question = {"role": "user", "content": "Warm?"}
    served.client.responses.create(input=[question, *first.output, *results])
    assert served.requests[1].json["input"] == [
        question,
        call('{"city": "Rome"}'),
        {"type": "function_call_output", "call_id": "call_1", "output": '{"degrees": 17}'},
    ]
    assert first.tool_calls[0].result("warm")["output"] == "warm"


def test_arguments_that_break_off() -> None:
    """The arguments of a call that max_output_tokens ended are not decoded by guesswork."""
    cut_off = Response.from_raw(response(call('{"ci', status="incomplete"), status="incomplete"))
    with pytest.raises(InvalidResponseError, match="arguments of temperature are not JSON") as info:
        cut_off.tool_calls[0].parse_args()
    assert info.value.body == '{"ci'
    assert Response.from_raw(response(call(" "))).tool_calls[0].parse_args() == {}


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_background_response_may_be_unfinished(serve: Serve, status: str) -> None:
    """In the background an unfinished response is returned; elsewhere it is an error."""
    served = serve(json_bytes(response(status=status)))
    queued = served.client.responses.create(input="x", background=True)
    assert (queued.status, served.requests[0].json["background"]) == (status, True)
    waiting: List[Dict[str, Any]] = [{}, {"background": False}]
    for background in waiting:
        with pytest.raises(InvalidResponseError, match=f"'{status}': it is incomplete") as caught:
            served.client.responses.create(input="x", **background)
        assert caught.value.partial == queued


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        ({"code": "server_error", "message": "It broke"}, "server_error", "It broke"),
        (None, None, "no message"),
        ("broken", None, "broken"),
    ],
)
def test_a_failed_generation_is_an_error(serve: Serve, error: Any, code: Any, text: str) -> None:
    """A response with the status "failed" raises, in the background and from the store too."""
    served = serve(json_bytes(response(message("Hal"), status="failed", error=error)))
    responses = served.client.responses
    asks: List[Callable[[], Response]] = [
        lambda: responses.create(input="x"),
        lambda: responses.create(input="x", background=True),
        lambda: responses.retrieve("resp_1"),
    ]
    for ask in asks:
        with pytest.raises(InternalServerError, match=text) as caught:
            ask()
        assert (caught.value.status_code, caught.value.code) == (500, code)
        assert caught.value.partial.text == "Hal"
        assert caught.value.body["status"] == "failed"


def test_an_aborted_generation_is_an_error(serve: Serve) -> None:
    """A response with the status "cancelled" that nobody cancelled is no complete one."""
    served = serve(json_bytes(response(message("Hal"), status="cancelled")))
    with pytest.raises(GenerationAbortedError) as caught:
        served.client.responses.create(input="x")
    assert caught.value.partial.text == "Hal"


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"status": "completed"},
        {"output": []},
        response(status=None),  # type: ignore[arg-type]
        {**response(), "output": {}},
        {**response(), "usage": 3},
        {**response(), "incomplete_details": "x"},
        response(3),
        response({"type": "message", "content": 3}),
        response({"type": "message", "content": [3]}),
        response({"type": "message", "content": [{"type": "output_text", "text": 3}]}),
        response({"type": "function_call", "arguments": "{}"}),
        response({"type": "function_call", "name": "f", "arguments": 3}),
    ],
)
def test_other_shapes(serve: Serve, body: Any) -> None:
    """A response of another shape is an InvalidResponseError, not an error of a later access."""
    with pytest.raises(InvalidResponseError, match="shape"):
        serve(json_bytes(body)).client.responses.create(input="x")


def test_a_later_server() -> None:
    """Items, parts and fields that this version does not know are kept, and are not in the way."""
    raw = response({"type": "new", "x": 1}, {"type": "message", "content": [{"type": "new"}]}, y=2)
    later = Response.from_raw(raw)
    assert (later.text, later.tool_calls, later.raw) == ("", [], raw)


def test_misuse_is_explained(serve: Serve) -> None:
    """What the server would refuse or ignore is refused before anything is sent."""
    served = serve(json_bytes(response()))
    responses: Any = served.client.responses
    for method in (responses.create, responses.stream):
        with pytest.raises(TypeError, match=r'write (create|stream)\(input="…"\)'):
            method("Hello")
        with pytest.raises(TypeError, match="did you mean 'max_output_tokens'"):
            method(input="x", max_tokens=3)
        with pytest.raises(TypeError, match="needs input="):
            method(model="m")
        with pytest.raises(TypeError, match="needs input="):
            method(input={"role": "user", "content": "x"})
        with pytest.raises(ValueError, match='has no member "function"'):
            method(input="x", tools=[{"type": "function", "function": {"name": "f"}}])
    for method in (responses.retrieve, responses.cancel):
        for nothing in ("", None):
            with pytest.raises(TypeError, match="must be the id of a response"):
                method(nothing)
        with pytest.raises(TypeError, match="did you mean 'timeout'"):
            method("resp_1", time_out=3)
    assert served.requests == []
    function = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    responses.create(input=[], tools=[function, "of a later server"])
    assert served.requests[0].json["tools"][0] == function


def test_retrieve(serve: Serve) -> None:
    """retrieve() returns a stored response as it is now, whatever its id contains."""
    served = serve(
        json_bytes(response(message("Hi"))),
        json_bytes(response(status="in_progress")),
        json_bytes(response(status="cancelled")),
    )
    assert served.client.responses.retrieve("resp_1").text == "Hi"
    assert (served.requests[0].method, served.requests[0].path) == ("GET", "/v1/responses/resp_1")
    assert served.client.responses.retrieve("a/b?c", timeout=5).status == "in_progress"
    assert served.requests[1].path == "/v1/responses/a%2Fb%3Fc"
    assert served.client.responses.retrieve("resp_1").status == "cancelled"


def test_cancel(serve: Serve) -> None:
    """cancel() stops a response in the background and returns it."""
    served = serve(json_bytes(response(message("Ha"), status="cancelled")))
    cancelled = served.client.responses.cancel("resp_1")
    assert (cancelled.status, cancelled.text) == ("cancelled", "Ha")
    request = served.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/responses/resp_1/cancel")
    assert request.body == b""


def test_unknown_id(serve: Serve) -> None:
    """The error for an id that the server does not have names the variable that keeps responses."""
    served = serve(capture("responses_get")[1])
    for ask in (served.client.responses.retrieve, served.client.responses.cancel):
        with pytest.raises(NotFoundError, match="'resp_nope' not found") as caught:
            ask("resp_nope")
        assert "VLLM_ENABLE_RESPONSES_API_STORE=1" in str(caught.value)
        assert (caught.value.param, caught.value.error_type) == (
            "response_id",
            "invalid_request_error",
        )
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_other_errors_of_the_store(serve: Serve) -> None:
    """Another refusal is the server's own, and a route that is not served is another matter."""
    served = serve(json_bytes({"detail": "Not Found"}, "404 Not Found"))
    with pytest.raises(NotFoundError, match="does not serve GET /v1/responses/resp_1") as missing:
        served.client.responses.retrieve("resp_1")
    assert "the server stores responses only" not in str(missing.value)
    refusal = {"message": "Cannot cancel a synchronous response.", "code": 400}
    served = serve(json_bytes({"error": refusal}, "400 Bad Request"))
    with pytest.raises(BadRequestError) as caught:
        served.client.responses.cancel("resp_1")
    assert caught.value.message == "Cannot cancel a synchronous response."


def test_public_names() -> None:
    """The types of responses are those of the package."""
    assert vllm_client.types.Response is Response
    assert vllm_client.types.ResponseToolCall is ResponseToolCall
