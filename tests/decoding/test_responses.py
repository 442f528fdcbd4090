"""The decoder of ``/v1/responses``: whatever an event holds, what has arrived stays readable."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Dict, List

from hypothesis import given
from hypothesis import strategies as st

from vllm_client import InvalidStreamError, Response, ServerStreamError
from vllm_client._decoding.responses import ResponseDecoder

from ..responses import (
    call,
    call_events,
    created,
    ended,
    event,
    message,
    reasoning,
    reasoning_events,
    text_events,
)

EVENTS: List[Dict[str, Any]] = [
    created(),
    *reasoning_events("Hm."),
    *text_events("Hello", 1),
    *call_events('{"city": "Rome"}', 1, 2),
    event("response.refusal.delta", item_id="msg_1", output_index=1, content_index=1, delta="No"),
    event("response.mcp_call_arguments.delta", item_id="mcp_1", output_index=3, delta="{"),
    ended(reasoning("Hm."), message("Hello"), call('{"city": "Rome"}')),
]
SCALARS = st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.sampled_from(["", "x"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("type"), inner),
    max_leaves=4,
)


def places(value: Any) -> List[Any]:
    """Every object and array inside a JSON value, each with one of its keys."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    found: List[Any] = []
    for key, inner in inside:
        found.append((value, key))
        if isinstance(inner, (dict, list)):
            found += places(inner)
    return found


@given(data=st.data())
def test_any_value_anywhere(data: st.DataObject) -> None:
    """With any value at any place, events are decoded or refused, and a snapshot can be made."""
    events = data.draw(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=8))
    events = json.loads(json.dumps(events))
    owner, key = data.draw(st.sampled_from(places(events)))
    owner[key] = data.draw(VALUES)
    decoder = ResponseDecoder()
    for each in events:
        with contextlib.suppress(InvalidStreamError, ServerStreamError):
            decoder.decode("message", json.dumps(each))
        snapshot = decoder.snapshot()
        assert isinstance(snapshot, Response)
        assert isinstance(snapshot.text + (snapshot.reasoning or ""), str)
        assert all(isinstance(one.arguments, str) for one in snapshot.tool_calls)


def test_a_snapshot_stays_as_it_is() -> None:
    """What arrives later does not change an earlier snapshot."""
    entry = {"token": "H", "logprob": -0.5}
    delta = event("response.output_text.delta", item_id="m", delta="H", logprobs=[entry])
    decoder = ResponseDecoder()
    decoder.decode("", json.dumps(delta))
    early = decoder.snapshot()
    decoder.decode("", json.dumps(delta))
    assert early.output[0]["content"][0] == {
        "type": "output_text",
        "text": "H",
        "logprobs": [entry],
    }
    assert decoder.snapshot().text == "HH"
