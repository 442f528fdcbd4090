"""``client.models``: what the server serves."""

from __future__ import annotations

import pytest

from vllm_client import InvalidResponseError, Model, ModelNotFoundError

from ..recorded import capture, json_bytes
from ..servers import Serve


def test_list(serve: Serve) -> None:
    """All models and adapters come in the server's order, with what the server says of each."""
    served = serve(capture("f_lora_models")[1])
    tiny, adapter = served.client.models.list(timeout=5)
    assert (served.requests[0].method, served.requests[0].path) == ("GET", "/v1/models")
    assert served.requests[0].body == b""
    assert (tiny.id, tiny.root, tiny.parent, tiny.max_model_len) == (
        "tiny",
        "/models/tiny-lm",
        None,
        512,
    )
    assert (adapter.id, adapter.parent, adapter.max_model_len) == ("ada", "tiny", None)
    assert tiny.created > 1_700_000_000
    assert tiny.raw["owned_by"] == "vllm"


def test_retrieve(serve: Serve) -> None:
    """A model is looked up by its name in the list, because vLLM has no route for one model."""
    served = serve(capture("f_lora_models")[1])
    assert served.client.models.retrieve("ada").root == "/models/lora-ada00"
    assert served.requests[0].path == "/v1/models"


def test_retrieve_unknown_model(serve: Serve) -> None:
    """The error for a name that is not served lists those that are."""
    served = serve(capture("f_lora_models")[1])
    with pytest.raises(ModelNotFoundError, match="it serves 'tiny', 'ada'") as caught:
        served.client.models.retrieve("nope")
    assert (caught.value.status_code, caught.value.param) == (404, "model")


def test_default(serve: Serve) -> None:
    """The default model is the first one."""
    assert serve(capture("models")[1]).client.models.default().id == "tiny"


def test_default_of_no_model(serve: Serve) -> None:
    """A server that lists no model has no default."""
    with pytest.raises(InvalidResponseError, match="lists no model"):
        serve(json_bytes({"object": "list", "data": []})).client.models.default()


@pytest.mark.parametrize("body", [{}, {"data": [{"name": "x"}]}, {"data": 3}, []])
def test_other_shape(serve: Serve, body: object) -> None:
    """A response of another shape is an InvalidResponseError."""
    with pytest.raises(InvalidResponseError, match="shape"):
        serve(json_bytes(body)).client.models.list()


def test_misspelt_argument(serve: Serve) -> None:
    """A misspelt argument is refused before anything is sent."""
    served = serve(capture("models")[1])
    with pytest.raises(TypeError, match="did you mean 'timeout'"):
        served.client.models.list(time_out=3)  # type: ignore[call-arg]
    assert served.requests == []


def test_unknown_fields_are_kept() -> None:
    """A card with fields of a later server keeps them in ``raw``."""
    assert Model.from_raw({"id": "m", "new": 1}).raw == {"id": "m", "new": 1}
