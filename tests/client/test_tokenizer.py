"""``client.tokenizer`` and ``client.lora``."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_client import (
    BadRequestError,
    InvalidResponseError,
    NotFoundError,
    Tokenization,
    VllmClient,
)
from vllm_client.testing import FakeServer

from ..recorded import HELLO, capture, json_bytes
from ..servers import Serve


def test_tokenize(serve: Serve) -> None:
    """A text becomes token ids, with the pieces if they are asked for."""
    served = serve(capture("tokenize")[1])
    found = served.client.tokenizer.tokenize("Hello 😀", model="tiny", return_token_strs=True)
    assert found == Tokenization([42, 443, 344, 378, 225], 5, 512, ["H", "el", "lo", "ĠðŁĺ", "Ģ"])
    request = served.requests[0]
    assert (request.method, request.path) == ("POST", "/tokenize")
    assert request.json == {"model": "tiny", "return_token_strs": True, "prompt": "Hello 😀"}
    assert found.raw["count"] == 5


def test_tokenize_a_conversation(serve: Serve) -> None:
    """Messages become the tokens of the chat's prompt."""
    served = serve(capture("tokenize_chat")[1])
    found = served.client.tokenizer.tokenize(messages=HELLO, add_generation_prompt=True)
    assert (found.count, found.token_strs) == (17, None)
    assert served.requests[0].json == {"messages": HELLO, "add_generation_prompt": True}


@pytest.mark.parametrize("params", [{}, {"prompt": "x", "messages": HELLO}])
def test_tokenize_takes_one_of_two(params: Any) -> None:
    """A prompt and messages together, or neither, are refused."""
    with VllmClient("host") as client, pytest.raises(TypeError, match="one of the two"):
        client.tokenizer.tokenize(**params)


def test_detokenize(serve: Serve) -> None:
    """Token ids become text."""
    served = serve(capture("detokenize")[1])
    assert served.client.tokenizer.detokenize((302, 804, 637)) == "The client sends"
    assert served.requests[0].json == {"tokens": [302, 804, 637]}


def test_detokenize_of_another_shape(serve: Serve) -> None:
    """A response without the text is an InvalidResponseError."""
    with pytest.raises(InvalidResponseError, match="shape"):
        serve(json_bytes({"prompt": 5})).client.tokenizer.detokenize([1])


def test_info(serve: Serve) -> None:
    """The tokenizer's settings come as the server sent them."""
    served = serve(capture("b_tokenizer_info")[1])
    assert served.client.tokenizer.info()["eos_token"] == "<|im_end|>"
    assert (served.requests[0].method, served.requests[0].path) == ("GET", "/tokenizer_info")


def test_info_that_is_not_served(serve: Serve) -> None:
    """The error says with which flag the server serves the route."""
    served = serve(capture("error_generate_model_tokenizer_info")[1])
    with pytest.raises(NotFoundError, match="--enable-tokenizer-info-endpoint"):
        served.client.tokenizer.info()


def test_lora_load(serve: Serve) -> None:
    """An adapter is loaded by name and path; the plain-text response is a success."""
    served = serve(capture("f_lora_load")[1])
    served.client.lora.load("ada", "/models/lora-ada00", load_inplace=True)
    request = served.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/load_lora_adapter")
    assert request.json == {
        "lora_name": "ada",
        "lora_path": "/models/lora-ada00",
        "load_inplace": True,
    }


def test_lora_unload(serve: Serve) -> None:
    """An adapter is unloaded by its name."""
    served = serve(capture("f_lora_unload")[1])
    served.client.lora.unload("ada")
    assert served.requests[0].path == "/v1/unload_lora_adapter"
    assert served.requests[0].json == {"lora_name": "ada"}


def test_lora_list(serve: Serve) -> None:
    """Adapters are the models that have a parent."""
    (adapter,) = serve(capture("f_lora_models")[1]).client.lora.list()
    assert (adapter.id, adapter.parent) == ("ada", "tiny")


REFUSED = [
    ("b_lora_load_missing", NotFoundError, "No adapter found"),
    ("b_lora_load_bad", BadRequestError, "Field required"),
    ("error_generate_model_v1_load_lora_adapter", NotFoundError, "VLLM_ALLOW_RUNTIME_LORA"),
]


@pytest.mark.parametrize(("name", "error", "message"), REFUSED)
def test_lora_refused(serve: Serve, name: str, error: Any, message: str) -> None:
    """A refusal has the server's words, or says what turns the route on."""
    with pytest.raises(error, match=message):
        serve(capture(name)[1]).client.lora.load("ada", "x")


def test_unload_of_an_unknown_adapter(serve: Serve) -> None:
    """Unloading what is not loaded is an error."""
    with pytest.raises(NotFoundError, match="'nope' cannot be found"):
        serve(capture("b_lora_unload_unknown")[1]).client.lora.unload("nope")


def test_adapters_of_the_embedded_server() -> None:
    """The embedded server loads, lists, uses and unloads adapters as vLLM does."""
    with FakeServer("tiny") as server, VllmClient(server.base_url) as client:
        client.lora.load("ada", "/a")
        with pytest.raises(BadRequestError, match="already been loaded"):
            client.lora.load("ada", "/a")
        client.lora.load("ada", "/b", load_inplace=True)
        assert [(each.id, each.root) for each in client.lora.list()] == [("ada", "/b")]
        assert client.completions.create(prompt="x", model="ada", max_tokens=2).text
        client.lora.unload("ada")
        with pytest.raises(NotFoundError, match="cannot be found"):
            client.lora.unload("ada")
        with pytest.raises(NotFoundError, match="No adapter found"):
            client.lora.load("ada", "/no-such")
        assert client.models.list()[0].id == "tiny"


def test_tokens_of_the_embedded_server() -> None:
    """Its tokens are those of its own completions."""
    with FakeServer("tiny") as server, VllmClient(server.base_url) as client:
        choice = client.completions.create(
            prompt="What is it?", max_tokens=5, return_token_ids=True
        ).choices[0]
        tokens = client.tokenizer.tokenize("What is it?").tokens
        assert choice.prompt_token_ids == tokens
        assert choice.token_ids is not None
        assert client.tokenizer.detokenize(choice.token_ids) == choice.text
        assert client.tokenizer.info()["model_max_length"] == 4096
