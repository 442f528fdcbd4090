"""Right and wrong uses of the typed API, for type checkers; nothing here is run.

A wrong use has ``type: ignore`` for mypy and ``pyright: ignore`` for basedpyright. Both report an
unnecessary ignore, so a checker that accepts a wrong use fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, TypedDict, Union

from vllm_client import (
    APIStatusError,
    APITimeoutError,
    AsyncStream,
    AsyncVllmClient,
    BatchReport,
    BatchRow,
    ChatCompletion,
    ChatCompletionStream,
    Choice,
    ClassificationResponse,
    Completion,
    CompletionChoice,
    CompletionParams,
    CompletionStream,
    CompletionStreamEvent,
    Done,
    EmbeddingResponse,
    Error,
    FinishReason,
    Generation,
    GenerationStream,
    LogLikelihood,
    Message,
    PoolingResponse,
    Response,
    ResponseStream,
    ResponseTextDelta,
    ResponseToolCall,
    ScoreResponse,
    StreamEvent,
    Text,
    Timeout,
    Tokens,
    Transcription,
    TranscriptionStream,
    Usage,
    VllmClient,
    VllmError,
)
from vllm_client.params import SamplingParams

if TYPE_CHECKING:
    from typing_extensions import assert_never, assert_type


def answers(client: VllmClient) -> None:
    """create() returns the response."""
    whole = client.completions.create(prompt="Hello", max_tokens=5)
    assert_type(whole, Completion)
    assert_type(client.completions.create(prompt="Hello", stream=False), Completion)
    assert_type(whole.text, str)
    assert_type(whole.choices, List[CompletionChoice])
    assert_type(whole.usage, Optional[Usage])
    assert_type(whole.finish_reason, Optional[str])
    str(whole.usage.total_tokens)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    str(whole.txt)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def streams(client: VllmClient) -> None:
    """stream() and create(stream=True) return a stream, which has no fields of a response."""
    with client.completions.stream(prompt="Hello") as stream:
        assert_type(stream, CompletionStream)
        for event in stream:
            assert_type(event, Union[Text, FinishReason, Usage, Done, Error])
        for text in stream.text_deltas():
            assert_type(text, str)
        assert_type(stream.collect(), Completion)
        assert_type(stream.collect_text(), str)
        assert_type(stream.snapshot, Completion)
        assert_type(stream.timings.ttft, Optional[float])
    assert_type(client.completions.create(prompt="Hello", stream=True), CompletionStream)
    str(stream.text)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    client.completions.stream(prompt="Hello", stream=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.completions.stream(prompt="Hello", on_error="event")
    client.completions.stream(prompt="Hello", on_error="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def habits(client: VllmClient, messages: List[Message], flag: bool) -> None:
    """None is a value of most fields, ``stream`` may be a variable, a message continues a chat."""
    assert_type(client.completions.create(prompt="Hello", max_tokens=None, stop=None), Completion)
    either = client.completions.create(prompt="Hello", stream=flag)
    assert_type(either, Union[Completion, CompletionStream])
    answer = client.chat.completions.create(messages=messages, temperature=None, tools=None)
    messages.append(answer.message)
    messages.append(answer.assistant_message())
    client.chat.completions.create(messages=[{"role": "user", "content": "x"}, answer.message])
    assert_type(
        client.chat.completions.create(messages=messages, stream=flag),
        Union[ChatCompletion, ChatCompletionStream],
    )
    assert_type(answer.to_dict(), Dict[str, Any])
    answer.model_dump()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    client.completions.create(prompt="Hello", n=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    messages.append(answer)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def fields(client: VllmClient) -> None:
    """Every field is a keyword with a type of its own."""
    client.completions.create(
        prompt=["a", "b"],
        model="m",
        temperature=0,
        top_k=5,
        stop=["."],
        logit_bias={"50": 1},
        structured_outputs={"choice": ["yes", "no"]},
        repetition_detection={"max_pattern_size": 5},
        truncation_side="left",
        skip_special_tokens=None,
        extra_body={"new_field": None},
        extra_headers={"X-A": "1", "User-Agent": None},
        timeout=Timeout(total=60),
    )
    client.completions.create(prompt=[1, 2, 3])
    client.completions.create(prompt=[[1, 2], [3]])
    client.completions.stream(prompt=("a", "b"), stream_options={"include_usage": False})


def wrong_fields(client: VllmClient) -> None:
    """An unknown name and a value of the wrong type are errors."""
    create = client.completions.create
    client.completions.create(prompt="Hello", max_token=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    client.completions.create(prompt="Hello", best_of=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    client.completions.create(prompt="Hello", max_tokens="5")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    create("Hello")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    create(prompt={"role": "user"})  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    create(prompt="Hello", truncation_side="middle")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    create(prompt="Hello", structured_outputs={"jsn": "{}"})  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    client.completions.stream("Hello")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.completions.stream(prompt="Hello", max_token=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.completions.stream(prompt="Hello", seed="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def narrowing_by_tag(event: CompletionStreamEvent) -> str:
    """The tag tells the classes of events apart, and a complete list of tags is accepted."""
    if event.type == "text":
        assert_type(event, Text)
        return event.text
    if event.type == "finish_reason":
        return event.reason
    if event.type == "usage":
        return str(event.total_tokens)
    if event.type == "done":
        return "done"
    if event.type == "error":
        return event.error.message
    assert_never(event)


def narrowing_by_class(event: CompletionStreamEvent) -> str:
    """isinstance() tells the classes of events apart."""
    if isinstance(event, Text):
        return event.text
    if isinstance(event, (FinishReason, Done)):
        return event.type
    if isinstance(event, Usage):
        return str(event.prompt_tokens)
    if isinstance(event, Error):
        assert_type(event.error, VllmError)
        return "error"
    assert_never(event)


def forgotten_case(event: CompletionStreamEvent) -> str:
    """A missing case is an error."""
    if event.type == "text":
        return event.text
    assert_never(event)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def wrong_member(event: CompletionStreamEvent) -> None:
    """An attribute of only some events cannot be used before the class is known."""
    str(event.text)  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue]
    if event.type == "txt":  # type: ignore[comparison-overlap]
        str(event)  # type: ignore[unreachable]


def responses(client: VllmClient) -> None:
    """Responses have fields and events of their own, told apart by the server's types."""
    assert_type(client.responses.create(input="Hello", top_k=5), Response)
    assert_type(client.responses.create(input="Hello", stream=True), ResponseStream)
    assert_type(client.responses.retrieve("resp_1").tool_calls, List[ResponseToolCall])
    with client.responses.stream(input=[{"role": "user", "content": "Hello"}]) as stream:
        assert_type(stream.collect(), Response)
        for event in stream:
            if event.type == "response.output_text.delta":
                assert_type(event, ResponseTextDelta)
            elif event.type == "response.created":
                assert_type(event.response, Response)
            elif event.type == "other":
                assert_type(event.name, str)
            elif event.type == "response.function_call_arguments.done":
                client.responses.create(input=[event.result("17")])
    client.responses.create(input="Hello", max_tokens=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    client.responses.stream(input="Hello", stream_options={})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def chat(client: VllmClient, messages: List[Message]) -> None:
    """Chat has fields and events of its own."""
    assert_type(client.chat.completions.create(messages=messages, top_logprobs=1), ChatCompletion)
    stream = client.chat.completions.stream(messages=messages)
    assert_type(stream, ChatCompletionStream)
    assert_type(stream.collect(), ChatCompletion)
    assert_type(
        client.chat.completions.create(messages=messages, stream=True), ChatCompletionStream
    )
    client.chat.completions.create(messages=messages, echos=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    client.chat.completions.stream(messages="Hello")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.chat.completions.stream(messages=messages, prompt="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def narrowing_in_chat(event: StreamEvent) -> str:
    """The tags tell the events of chat apart."""
    if event.type == "content" or event.type == "reasoning":
        return event.text
    if event.type == "tool_call_delta":
        return event.arguments
    if event.type == "tool_call":
        return event.name
    if event.type == "finish_reason" or event.type == "usage" or event.type == "done":
        return event.type
    if event.type == "error":
        return event.error.message
    assert_never(event)


def pooling_models(client: VllmClient) -> None:
    """The routes of pooling models have typed keywords and responses."""
    embedded = client.embeddings.create(input=["a", "b"], embed_dtype="float16", batch_size=1)
    assert_type(embedded, EmbeddingResponse)
    assert_type(client.pooling.create(input=[[1, 2]], task="embed"), PoolingResponse)
    assert_type(client.classify.create(input="a"), ClassificationResponse)
    assert_type(client.score.create(queries="a", documents=["b"]), ScoreResponse)
    best = client.rerank.create(query="a", documents=["b"]).results[0]
    assert_type(best.relevance_score, float)
    client.embeddings.create(input="a", embed_dtype="int4")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.score.create(querys="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def scores(client: VllmClient) -> None:
    """Scores have typed keywords and results."""
    assert_type(client.evaluate.loglikelihood("a", "b", boundary="tokens"), LogLikelihood)
    assert_type(client.evaluate.loglikelihood(messages=[], continuation="b"), LogLikelihood)
    assert_type(client.evaluate.choose([1], [[2], [3]], normalize="token"), Choice)
    assert_type(client.evaluate.perplexity("a", window=9, stride=3).per_byte, float)
    for result in client.evaluate.loglikelihoods([("a", "b")], on_error="row"):
        if isinstance(result, LogLikelihood):
            assert_type(result.logprob, float)
        else:
            assert_type(result.error, VllmError)
    client.evaluate.loglikelihood("a", "b", boundary="text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.evaluate.choose("a", ["b"], normalise="token")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def asynchronously(client: AsyncVllmClient, messages: List[Message]) -> None:
    """The asynchronous client has the same keywords, and its streams the same events."""
    assert_type(await client.completions.create(prompt="x", top_k=3), Completion)
    assert_type(
        client.completions.stream(prompt="x"), AsyncStream[CompletionStreamEvent, Completion]
    )
    async with client.chat.completions.stream(messages=messages) as stream:
        async for event in stream:
            assert_type(event, StreamEvent)
        assert_type(await stream.collect(), ChatCompletion)
    client.completions.stream(prompt="x", max_token=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.completions.create(prompt=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def structured_answers(client: VllmClient, messages: List[Message]) -> None:
    """A class is a form of the answer, and ``parsed_as`` has its type."""

    @dataclass
    class City:
        name: str

    class Place(TypedDict):
        name: str

    completion = client.completions.create(prompt="x", response_format=City)
    assert_type(completion.parsed_as(City), City)
    assert_type(completion.parsed_as(Place)["name"], str)
    chat = client.chat.completions.create(messages=messages, response_format=Place)
    assert_type(chat.parsed_as(City).name, str)
    client.completions.create(prompt="x", response_format=City("Oslo"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    str(completion.parsed_as(City).nme)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def further_routes(client: VllmClient, messages: List[Message]) -> None:
    """Batches, token ids and recordings have keywords and responses of their own."""
    batch = client.chat.completions.batch(messages=[messages], max_tokens=5)
    assert_type(batch, ChatCompletion)
    client.chat.completions.batch(messages=messages)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    generation = client.generate.create(token_ids=[1], sampling_params={"n": 2}, top_k=3)
    assert_type(generation, Generation)
    assert_type(generation.token_ids, List[int])
    with client.generate.stream(token_ids=[1]) as stream:
        assert_type(stream, GenerationStream)
        for event in stream:
            assert_type(event, Union[Tokens, FinishReason, Usage, Done, Error])
        assert_type(stream.collect(), Generation)
    client.generate.create(token_ids="Hi")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.generate.create(token_ids=[1], sampling_params={"tempo": 2})  # type: ignore[typeddict-unknown-key]  # pyright: ignore[reportArgumentType]
    audio = client.audio.transcriptions
    assert_type(audio.create(file=b"", response_format="json"), Transcription)
    assert_type(audio.stream(file="speech.wav"), TranscriptionStream)
    audio.create(file=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.audio.translations.create(file=b"", timestamp_granularities=[])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def batches(client: VllmClient, other: AsyncVllmClient) -> None:
    """Rows and reports have their types, and the fields of all rows are checked."""
    for each in client.batch.completions(["x"], max_tokens=5, max_concurrency=4):
        assert_type(each, BatchRow)
    async for row in other.batch.chat(["x"], ordered=False):
        assert_type(row, BatchRow)
    assert_type(client.batch.run("in", "out", max_tokens=5), BatchReport)
    assert_type(await other.batch.run("in", "out", max_tokens=5), BatchReport)
    client.batch.completions(["x"], max_token=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    other.batch.completions(["x"], max_token=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await other.batch.run(1, "out")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def presets(client: VllmClient) -> None:
    """The keys and values of a preset are checked."""
    hello: CompletionParams = {"prompt": "Hello", "temperature": 0, "max_tokens": 64}
    assert_type(client.completions.create(**hello), Completion)
    assert_type(client.completions.create(**hello, stream=True), CompletionStream)
    assert_type(client.completions.stream(**hello), CompletionStream)
    greedy: SamplingParams = {"temperature": 0, "seed": 7}
    assert_type(client.completions.create(prompt="Hello", **greedy), Completion)
    assert_type(client.completions.stream(prompt="Hello", **greedy), CompletionStream)
    hello["stop"] = ["."]
    hello["seed"] = "x"  # type: ignore[typeddict-item]  # pyright: ignore[reportGeneralTypeIssues]
    wrong: CompletionParams = {"temprature": 0}  # type: ignore[typeddict-unknown-key]  # pyright: ignore[reportAssignmentType]
    client.completions.create(**wrong)


def clients(headers: Mapping[str, Optional[str]], anything: Dict[str, Any]) -> None:
    """The arguments of the client are typed."""
    with VllmClient("localhost:8000", api_key="k", timeout=(1, None), headers=headers) as client:
        assert_type(client.with_options(timeout=None, max_retries=0), VllmClient)
        assert_type(client.base_url, str)
        assert_type(client.timeout, Timeout)
        client.request("POST", "/pooling", json=anything).json()
    VllmClient("localhost:8000", "key")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    VllmClient(timeout="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    VllmClient(retries=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def errors(client: VllmClient) -> None:
    """Errors have the attributes of their class."""
    try:
        client.completions.create(prompt="Hello")
    except APIStatusError as error:
        assert_type(error.status_code, int)
        assert_type(error.param, Optional[str])
    except APITimeoutError as error:
        assert_type(error.is_retryable, bool)
        str(error.status_code)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    except VllmError as error:
        assert_type(error.message, str)
