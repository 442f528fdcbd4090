"""The snapshot: what is kept of each chunk, and at what cost."""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, List

import pytest

from vllm_client import Completion
from vllm_client._decoding.completion import CompletionDecoder

from ..recorded import USAGE, chunk


def snapshot_of(*chunks: Any) -> Completion:
    """The snapshot after these chunks."""
    decoder = CompletionDecoder(1)
    for data in chunks:
        decoder.decode(json.dumps(data))
    return decoder.snapshot()


def test_nothing_yet() -> None:
    """Before the first chunk the snapshot has no choices."""
    snapshot = CompletionDecoder(2).snapshot()
    assert snapshot == Completion("", "", 0, [])
    assert snapshot.text == ""
    assert snapshot.finish_reason is None
    assert snapshot.usage is None


def test_members_beside_the_choices() -> None:
    """Members beside the choices are kept from any chunk; later values win."""
    snapshot = snapshot_of(
        {**chunk("a"), "extension": 1},
        {**chunk("b"), "extension": 2, "system_fingerprint": "f"},
        {"id": "cmpl-1", "model": "m", "created": 1, "choices": [], "object": "text_completion"},
    )
    assert (snapshot.id, snapshot.model, snapshot.created) == ("cmpl-1", "m", 1)
    assert snapshot.raw["extension"] == 2
    assert snapshot.raw["system_fingerprint"] == "f"
    assert snapshot.raw["object"] == "text_completion"


def test_raw_has_the_shape_of_a_response() -> None:
    """``raw`` of a snapshot can be read as a response and is equal to the snapshot."""
    snapshot = snapshot_of(
        chunk("a", token_ids=[1], logprobs={"tokens": ["a"], "token_logprobs": [-1.5]}),
        chunk("b", index=1, finish="stop", stop_reason="x"),
        {"choices": [], "usage": USAGE},
    )
    assert Completion.from_raw(json.loads(json.dumps(snapshot.raw))) == snapshot
    assert USAGE.items() <= snapshot.raw["usage"].items()
    assert "type" not in snapshot.raw["usage"]


def test_log_probabilities_are_joined() -> None:
    """Each parallel list of log-probabilities is joined; null is an empty list."""
    snapshot = snapshot_of(
        chunk("a", logprobs={"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": None}),
        chunk("b"),
        chunk("", logprobs={"tokens": [], "token_logprobs": []}),
        chunk("cd", logprobs={"tokens": ["c", "d"], "token_logprobs": [-2.0, None]}),
    )
    assert snapshot.choices[0].logprobs == {
        "tokens": ["a", "c", "d"],
        "token_logprobs": [-1.0, -2.0, None],
        "top_logprobs": [],
    }


def test_without_log_probabilities_and_ids() -> None:
    """Fields that were not requested are None, not empty."""
    choice = snapshot_of(chunk("a"), chunk("b", token_ids=[])).choices[0]
    assert (choice.logprobs, choice.token_ids, choice.prompt_token_ids) == (None, None, None)


def test_token_ids_are_joined() -> None:
    """Token ids are joined, those of chunks without text too."""
    snapshot = snapshot_of(
        chunk("", token_ids=[1, 2]), chunk("a", token_ids=[3]), chunk("", finish="stop")
    )
    assert snapshot.choices[0].token_ids == [1, 2, 3]


def test_prompt_token_ids_are_kept() -> None:
    """The token ids of the prompt, in the first chunk of each choice, are kept."""
    snapshot = snapshot_of(
        chunk("a", prompt_token_ids=[7, 8]),
        chunk("b", index=1, prompt_token_ids=[9]),
        chunk("c"),
        chunk("", index=1, finish="stop"),
    )
    assert [choice.prompt_token_ids for choice in snapshot.choices] == [[7, 8], [9]]


def test_unknown_members_of_a_choice_are_kept() -> None:
    """The last value of an unknown member of a choice is kept; null does not replace it."""
    snapshot = snapshot_of(
        chunk("a", extension={"a": 1}, other=0),
        chunk("b", index=1, extension="of choice 1"),
        chunk("c", extension={"a": 2}),
        chunk("d", finish="stop", extension=None),
    )
    first, second = snapshot.raw["choices"]
    assert (first["extension"], first["other"]) == ({"a": 2}, 0)
    assert second["extension"] == "of choice 1"
    assert "other" not in second
    assert snapshot.text == "acd"


def test_unknown_members_replace_no_known_ones() -> None:
    """An unknown member that is always null is absent; known members keep their values."""
    snapshot = snapshot_of(chunk("a", extension=None, routed_experts=None))
    [choice] = snapshot.raw["choices"]
    assert "extension" not in choice
    assert (choice["text"], choice["prompt_logprobs"]) == ("a", None)


def test_weight_versions_are_kept() -> None:
    """The versions of the weights, which the last chunk of a choice has, are an attribute."""
    spans = [{"version": "step-1", "start": 0, "end": 2}]
    snapshot = snapshot_of(chunk("a"), chunk("b", finish="stop", weight_versions=spans))
    assert snapshot.choices[0].weight_versions == spans


def test_transfer_params_are_kept() -> None:
    """``kv_transfer_params``, which the last chunk has, are in the snapshot."""
    params = {"remote_engine_id": "e", "remote_block_ids": [1]}
    snapshot = snapshot_of(
        {**chunk("a"), "kv_transfer_params": None},
        {**chunk("b", finish="stop"), "kv_transfer_params": params},
        {"choices": [], "usage": USAGE},
    )
    assert snapshot.raw["kv_transfer_params"] == params


def test_finish_is_kept() -> None:
    """Finish reason and stop reason are kept."""
    snapshot = snapshot_of(chunk("a", finish="stop", stop_reason=13), {"choices": []})
    choice = snapshot.choices[0]
    assert (choice.finish_reason, choice.stop_reason) == ("stop", 13)
    assert snapshot.finish_reason == "stop"


def test_snapshots_are_independent() -> None:
    """A snapshot does not change with the stream, nor the stream with a snapshot."""
    decoder = CompletionDecoder(1)
    data = chunk("a", token_ids=[1], logprobs={"tokens": ["a"]})
    decoder.decode(json.dumps(data))
    early = decoder.snapshot()
    decoder.decode(json.dumps(data))
    assert (early.text, early.choices[0].token_ids) == ("a", [1])
    assert early.choices[0].logprobs == {"tokens": ["a"]}
    assert early.choices[0].token_ids is not None
    early.choices[0].token_ids.append(5)
    early.choices[0].logprobs["tokens"].append("b")
    early.raw["choices"].clear()
    late = decoder.snapshot()
    assert (late.text, late.choices[0].token_ids) == ("aa", [1, 1])
    assert late.choices[0].logprobs == {"tokens": ["a", "a"]}


def test_events_are_not_changed_by_what_follows() -> None:
    """The lists of an event do not grow with later chunks."""
    decoder = CompletionDecoder(1)
    data = chunk("a", token_ids=[1], logprobs={"tokens": ["a"]})
    first = decoder.decode(json.dumps(data))[0]
    decoder.decode(json.dumps(data))
    assert (first.token_ids, first.logprobs) == ([1], {"tokens": ["a"]})  # type: ignore[union-attr]


def work_of(decoder: CompletionDecoder, datas: List[str]) -> Dict[str, int]:
    """The number of calls of each function, Python or C, while these chunks are decoded."""
    counted: Dict[str, int] = {}

    def count(frame: Any, event: str, argument: Any) -> None:
        if event in {"call", "c_call"}:
            called = argument if event == "c_call" else frame.f_code
            name = getattr(called, "co_name", None) or called.__qualname__
            counted[name] = counted.get(name, 0) + 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for data in datas:
            decoder.decode(data)
    finally:
        sys.setprofile(before)
    counted.pop("setprofile", None)
    return counted


@pytest.mark.parametrize(
    "more", [{}, {"token_ids": [1]}, {"token_ids": [1], "logprobs": {"tokens": ["a"]}}]
)
def test_work_does_not_grow(more: Dict[str, Any]) -> None:
    """A late chunk costs the same as an early one."""
    decoder = CompletionDecoder(1)
    datas = [json.dumps(chunk("word ", **more))] * 200
    work_of(decoder, datas)  # The first chunk creates its choice, which costs more.
    early = work_of(decoder, datas)
    for _ in range(10):
        work_of(decoder, datas)
    late = work_of(decoder, datas)
    assert late == early
    assert not {"str.join", "list.copy", "raw", "snapshot"} & set(late)
    assert sum(late.values()) < 200 * 60
    assert decoder.snapshot().text == "word " * 200 * 13
