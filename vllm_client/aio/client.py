"""The client for ``asyncio``: a thin layer of threads over the synchronous client.

A thread of its own reads each stream; all other calls run in the threads of an executor. Names,
signatures, docstrings and types are those of the synchronous methods.
"""

from __future__ import annotations

from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Optional,
    Type,
)

import requests

from .._habits import CHAT_HABITS, CLIENT_HABITS, client_habits
from .._http.headers import Headers
from .._http.settings import DEFAULT_MAX_RESPONSE_BYTES, DEFAULT_TIMEOUT
from ..client import _UNSET, VllmClient
from ..resources.audio import Transcriptions, Translations
from ..resources.chat import ChatCompletions
from ..resources.completions import Completions
from ..resources.embeddings import Embeddings
from ..resources.generate import Generate
from ..resources.lora import Lora
from ..resources.models import Models
from ..resources.pooling import Classify, Pooling
from ..resources.responses import Responses
from ..resources.scoring import Rerank, Score
from ..resources.server import Server
from ..resources.tokenizer import Tokenizer
from ..timeouts import Timeout, TimeoutTypes
from ._executor import CallExecutor
from ._twin import AsyncTwin, in_own_thread, in_thread

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, Self

    from .batch import AsyncBatch
    from .evaluate import AsyncEvaluate

    P = ParamSpec("P")

__all__ = ["AsyncVllmClient"]

MOST_CALLS = 256
"""Calls in progress at once, not counting streams; further calls wait for a thread."""


class AsyncCompletions(AsyncTwin):
    """``POST /v1/completions``."""

    create = in_thread(Completions.create)
    stream = in_own_thread(Completions.stream)


class AsyncChatCompletions(AsyncTwin):
    """``POST /v1/chat/completions``."""

    create = in_thread(ChatCompletions.create)
    stream = in_own_thread(ChatCompletions.stream)
    batch = in_thread(ChatCompletions.batch)


@client_habits(**CHAT_HABITS)
class AsyncChat(AsyncTwin):
    """``client.chat``, as openai-python has it."""

    @property
    def completions(self) -> AsyncChatCompletions:
        """``POST /v1/chat/completions``."""
        return AsyncChatCompletions(self._sync.completions, self._executor)


class AsyncModels(AsyncTwin):
    """``GET /v1/models``."""

    list = in_thread(Models.list)
    retrieve = in_thread(Models.retrieve)
    default = in_thread(Models.default)


class AsyncResponses(AsyncTwin):
    """``/v1/responses``."""

    create = in_thread(Responses.create)
    stream = in_own_thread(Responses.stream)
    retrieve = in_thread(Responses.retrieve)
    cancel = in_thread(Responses.cancel)


class AsyncEmbeddings(AsyncTwin):
    """``POST /v1/embeddings``."""

    create = in_thread(Embeddings.create)


class AsyncPooling(AsyncTwin):
    """``POST /pooling``."""

    create = in_thread(Pooling.create)


class AsyncClassify(AsyncTwin):
    """``POST /classify``."""

    create = in_thread(Classify.create)


class AsyncScore(AsyncTwin):
    """``POST /score``."""

    create = in_thread(Score.create)


class AsyncRerank(AsyncTwin):
    """``POST /rerank``."""

    create = in_thread(Rerank.create)


class AsyncTokenizer(AsyncTwin):
    """``POST /tokenize``, ``POST /detokenize`` and ``GET /tokenizer_info``."""

    tokenize = in_thread(Tokenizer.tokenize)
    detokenize = in_thread(Tokenizer.detokenize)
    info = in_thread(Tokenizer.info)


class AsyncLora(AsyncTwin):
    """``POST /v1/load_lora_adapter`` and ``POST /v1/unload_lora_adapter``."""

    load = in_thread(Lora.load)
    unload = in_thread(Lora.unload)
    list = in_thread(Lora.list)


class AsyncServer(AsyncTwin):
    """``/health``, ``/version``, ``/metrics``, ``/sleep`` and their like."""

    health = in_thread(Server.health)
    wait_until_ready = in_thread(Server.wait_until_ready)
    version = in_thread(Server.version)
    load = in_thread(Server.load)
    metrics = in_thread(Server.metrics)
    info = in_thread(Server.info)
    sleep = in_thread(Server.sleep)
    wake_up = in_thread(Server.wake_up)
    is_sleeping = in_thread(Server.is_sleeping)
    pause = in_thread(Server.pause)
    resume = in_thread(Server.resume)
    is_paused = in_thread(Server.is_paused)
    abort = in_thread(Server.abort)
    reset_prefix_cache = in_thread(Server.reset_prefix_cache)
    reset_mm_cache = in_thread(Server.reset_mm_cache)


class AsyncGenerate(AsyncTwin):
    """``POST /inference/v1/generate``, on a server with ``--enable-scale-out``."""

    create = in_thread(Generate.create)
    stream = in_own_thread(Generate.stream)


class AsyncTranscriptions(AsyncTwin):
    """``POST /v1/audio/transcriptions``, of a speech model."""

    create = in_thread(Transcriptions.create)
    stream = in_own_thread(Transcriptions.stream)


class AsyncTranslations(AsyncTwin):
    """``POST /v1/audio/translations``, of a speech model."""

    create = in_thread(Translations.create)
    stream = in_own_thread(Translations.stream)


class AsyncAudio(AsyncTwin):
    """``client.audio``, as openai-python has it."""

    @property
    def transcriptions(self) -> AsyncTranscriptions:
        """``POST /v1/audio/transcriptions``."""
        return AsyncTranscriptions(self._sync.transcriptions, self._executor)

    @property
    def translations(self) -> AsyncTranslations:
        """``POST /v1/audio/translations``."""
        return AsyncTranslations(self._sync.translations, self._executor)


@client_habits(**CLIENT_HABITS, close="use await client.aclose()")
class AsyncVllmClient(AsyncTwin):
    """:class:`~vllm_client.VllmClient` for ``asyncio``; arguments and errors are the same.

    Args:
        max_calls: Calls in progress at once, not counting streams, 1 or more; further calls wait.
    """

    _sync: VllmClient

    def __init__(
        self,
        base_url: Optional[str] = None,
        *,
        api_key: Optional[str] = None,
        timeout: TimeoutTypes = DEFAULT_TIMEOUT,
        max_retries: int = 2,
        headers: Optional[Headers] = None,
        session: Optional[requests.Session] = None,
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
        max_calls: int = MOST_CALLS,
    ) -> None:
        sync = VllmClient(
            base_url,
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            headers=headers,
            session=session,
            max_response_bytes=max_response_bytes,
        )
        self._use(sync, CallExecutor(max_calls), owns_executor=True)

    @classmethod
    def _over(
        cls, sync: VllmClient, executor: CallExecutor, *, owns_executor: bool
    ) -> AsyncVllmClient:
        client = object.__new__(cls)
        client._use(sync, executor, owns_executor=owns_executor)
        return client

    def _use(self, sync: VllmClient, executor: CallExecutor, *, owns_executor: bool) -> None:
        super().__init__(sync, executor)
        self._owns_executor = owns_executor
        self.completions = AsyncCompletions(sync.completions, executor)
        self.chat = AsyncChat(sync.chat, executor)
        self.models = AsyncModels(sync.models, executor)
        self.responses = AsyncResponses(sync.responses, executor)
        self.tokenizer = AsyncTokenizer(sync.tokenizer, executor)
        self.lora = AsyncLora(sync.lora, executor)
        self.server = AsyncServer(sync.server, executor)
        self.embeddings = AsyncEmbeddings(sync.embeddings, executor)
        self.pooling = AsyncPooling(sync.pooling, executor)
        self.classify = AsyncClassify(sync.classify, executor)
        self.score = AsyncScore(sync.score, executor)
        self.rerank = AsyncRerank(sync.rerank, executor)
        self.generate = AsyncGenerate(sync.generate, executor)
        self.audio = AsyncAudio(sync.audio, executor)

    request = in_thread(VllmClient.request)

    @property
    def batch(self) -> AsyncBatch:
        """As :attr:`VllmClient.batch`."""
        from .batch import AsyncBatch  # noqa: PLC0415 — few programs use it

        return AsyncBatch(self._sync.batch, self._executor)

    @property
    def evaluate(self) -> AsyncEvaluate:
        """As :attr:`VllmClient.evaluate`."""
        from .evaluate import AsyncEvaluate  # noqa: PLC0415 — few programs use it

        return AsyncEvaluate(self._sync.evaluate, self._executor)

    @property
    def base_url(self) -> str:
        """As :attr:`VllmClient.base_url`."""
        return self._sync.base_url

    @property
    def server_url(self) -> str:
        """As :attr:`VllmClient.server_url`."""
        return self._sync.server_url

    @property
    def timeout(self) -> Timeout:
        """As :attr:`VllmClient.timeout`."""
        return self._sync.timeout

    @property
    def max_retries(self) -> int:
        """As :attr:`VllmClient.max_retries`."""
        return self._sync.max_retries

    def with_options(
        self,
        *,
        timeout: TimeoutTypes = _UNSET,
        max_retries: int = _UNSET,
        headers: Optional[Headers] = _UNSET,
        max_response_bytes: int = _UNSET,
    ) -> AsyncVllmClient:
        """As :meth:`VllmClient.with_options`."""
        sync = self._sync.with_options(
            timeout=timeout,
            max_retries=max_retries,
            headers=headers,
            max_response_bytes=max_response_bytes,
        )
        return self._over(sync, self._executor, owns_executor=False)

    async def aclose(self) -> None:
        """Cancel the open streams and calls, and close the connections. May be called again."""
        self._sync.close()
        if self._owns_executor:
            self._executor.shut_down()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __reduce__(self) -> Any:
        return _unpickled, (self._sync, self._executor.max_calls)


def _unpickled(sync: VllmClient, max_calls: int) -> AsyncVllmClient:
    return AsyncVllmClient._over(sync, CallExecutor(max_calls), owns_executor=True)
