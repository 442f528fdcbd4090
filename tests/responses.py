"""Responses of ``/v1/responses`` and their SSE events, as vLLM 0.33 sends them."""

from __future__ import annotations

import json
from typing import Any, Dict, List

from .recorded import LAST_CHUNK, STREAM_HEAD, chunked

USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}


def message(text: str, item_id: str = "msg_1", status: str = "completed") -> Dict[str, Any]:
    """An item of the output: a message with one text."""
    part: Any = {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
    content = [part] if text else []
    head = {"type": "message", "id": item_id, "role": "assistant", "status": status}
    return {**head, "content": content}


def reasoning(text: str, item_id: str = "rs_1") -> Dict[str, Any]:
    """An item of the output: reasoning."""
    content = [{"type": "reasoning_text", "text": text}]
    return {"type": "reasoning", "id": item_id, "summary": [], "content": content}


def call(arguments: str, number: int = 1, status: str = "completed") -> Dict[str, Any]:
    """An item of the output: a call of the function "temperature"."""
    names = {"id": f"fc_{number}", "call_id": f"call_{number}", "name": "temperature"}
    return {"type": "function_call", **names, "arguments": arguments, "status": status}


def response(*output: Any, status: str = "completed", **more: Any) -> Dict[str, Any]:
    """A response that is not streamed, decoded."""
    head = {"id": "resp_1", "object": "response", "created_at": 5, "model": "m"}
    return {**head, "status": status, "output": list(output), "usage": USAGE, **more}


def event(kind: str, **fields: Any) -> Dict[str, Any]:
    """The data of an SSE event."""
    return {"type": kind, **fields}


def created() -> Dict[str, Any]:
    """The first event."""
    return event("response.created", response=response(status="in_progress", usage=None))


def ended(*output: Any, status: str = "completed", **more: Any) -> Dict[str, Any]:
    """The event that ends a response."""
    kind = f"response.{status}"
    return event(kind, response=response(*output, status=status, **more))


def text_events(text: str, index: int = 0, item_id: str = "msg_1") -> List[Dict[str, Any]]:
    """The events of a message whose text arrives in two pieces."""
    at = {"item_id": item_id, "output_index": index, "content_index": 0}
    item, part = message(text, item_id), message(text)["content"][0]
    middle = len(text) // 2
    return [
        event(
            "response.output_item.added",
            output_index=index,
            item={**item, "content": [], "status": "in_progress"},
        ),
        event("response.content_part.added", **at, part={**part, "text": "", "logprobs": []}),
        event("response.output_text.delta", **at, delta=text[:middle], logprobs=[]),
        event("response.output_text.delta", **at, delta=text[middle:], logprobs=[]),
        event("response.output_text.done", **at, text=text, logprobs=[]),
        event("response.content_part.done", **at, part=part),
        event("response.output_item.done", output_index=index, item=item),
    ]


def reasoning_events(text: str, index: int = 0) -> List[Dict[str, Any]]:
    """The events of an item of reasoning whose text arrives in one piece."""
    item = reasoning(text)
    at = {"item_id": item["id"], "output_index": index, "content_index": 0}
    part = item["content"][0]
    begun = {**item, "content": None, "status": "in_progress"}
    return [
        event("response.output_item.added", output_index=index, item=begun),
        event("response.content_part.added", **at, part={**part, "text": ""}),
        event("response.reasoning_text.delta", **at, delta=text),
        event("response.reasoning_text.done", **at, text=text),
        event("response.content_part.done", **at, part=part),
        event("response.output_item.done", output_index=index, item=item),
    ]


def call_events(
    arguments: str, number: int = 1, index: int = 0, status: str = "completed"
) -> List[Dict[str, Any]]:
    """The events of a function call whose arguments arrive in two pieces."""
    item = call(arguments, number, status)
    at = {"item_id": item["id"], "output_index": index}
    middle = len(arguments) // 2
    begun = {**item, "arguments": "", "status": "in_progress"}
    done = {"arguments": arguments, "name": item["name"]}
    return [
        event("response.output_item.added", output_index=index, item=begun),
        event("response.function_call_arguments.delta", **at, delta=arguments[:middle]),
        event("response.function_call_arguments.delta", **at, delta=arguments[middle:]),
        event("response.function_call_arguments.done", **at, **done),
        event("response.output_item.done", output_index=index, item=item),
    ]


def named(data: Any) -> bytes:
    """An SSE event, named as its data are."""
    return f"event: {data['type']}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def response_stream(*events: Any, head: bytes = STREAM_HEAD) -> bytes:
    """A whole response with these SSE events, chunked if the head announces it."""
    data = [each if isinstance(each, bytes) else named(each) for each in events]
    if b"chunked" not in head:
        return head + b"".join(data)
    return head + b"".join(map(chunked, data)) + LAST_CHUNK
