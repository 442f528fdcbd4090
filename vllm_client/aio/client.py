"""The client for ``asyncio``: a thin face over threads.

The synchronous client stays the truth. A stream is read by one thread of its own, everything else
runs on an executor of the client's; the names are the same, and signatures, docstrings and types
are those of the synchronous methods.
"""

from __future__ import annotations

import functools
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Coroutine,
    Mapping,
    Optional,
    Type,
    TypeVar,
    Union,
)

import requests

from ..client import _UNSET, DEFAULT_TIMEOUT, VllmClient
from ..resources.chat import ChatCompletions
from ..resources.completions import Completions
from ..streams import Stream
from ..timeouts import Timeout, TimeoutTypes
from ..types import ChatCompletion, Completion
from ._executor import Calls
from .stream import AsyncStream

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec, Self

    P = ParamSpec("P")

T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R", bound=Union[Completion, ChatCompletion])

MOST_CALLS = 256
"""Calls in flight at once, streams not counted; more wait for a thread."""
_IN_A_ROW = 64


class _Face:
    """The asynchronous face of something synchronous."""

    def __init__(self, sync: Any, calls: Calls) -> None:
        self._sync = sync
        self._calls = calls


def in_thread(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The asynchronous twin of a method: the same call, run in a thread."""

    async def call(self: _Face, /, *args: P.args, **kwargs: P.kwargs) -> T:
        result: Any = await self._calls.run(functools.partial(method, self._sync, *args, **kwargs))
        # create(stream=True) gives a stream.
        if isinstance(result, Stream):
            result = AsyncStream(result)
        given: T = result
        return given

    functools.update_wrapper(call, method)
    return call


def in_own_thread(
    method: Callable[Concatenate[Any, P], Stream[E, R]],
) -> Callable[Concatenate[Any, P], AsyncStream[E, R]]:
    """The asynchronous twin of a method that opens a stream, to be used in ``async with``."""

    def call(self: _Face, /, *args: P.args, **kwargs: P.kwargs) -> AsyncStream[E, R]:
        return AsyncStream._opening(functools.partial(method, self._sync, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


class AsyncCompletions(_Face):
    """``POST /v1/completions``."""

    create = in_thread(Completions.create)
    stream = in_own_thread(Completions.stream)


class AsyncChatCompletions(_Face):
    """``POST /v1/chat/completions``."""

    create = in_thread(ChatCompletions.create)
    stream = in_own_thread(ChatCompletions.stream)


class AsyncChat(_Face):
    """``client.chat``, as openai-python has it."""

    @property
    def completions(self) -> AsyncChatCompletions:
        """``POST /v1/chat/completions``."""
        return AsyncChatCompletions(self._sync.completions, self._calls)


class AsyncVllmClient(_Face):
    """:class:`~vllm_client.VllmClient` for ``asyncio``; arguments and errors are the same.

    Args:
        max_calls: Calls in flight at once, streams not counted, 1 or more; further ones wait.
    """

    _sync: VllmClient

    def __init__(
        self,
        base_url: Optional[str] = None,
        *,
        api_key: Optional[str] = None,
        timeout: TimeoutTypes = DEFAULT_TIMEOUT,
        max_retries: int = 2,
        headers: Optional[Mapping[str, Optional[str]]] = None,
        session: Optional[requests.Session] = None,
        max_calls: int = MOST_CALLS,
    ) -> None:
        sync = VllmClient(
            base_url,
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            headers=headers,
            session=session,
        )
        self._wrap(sync, Calls(max_calls), owns_calls=True)

    def _wrap(self, sync: VllmClient, calls: Calls, *, owns_calls: bool) -> None:
        super().__init__(sync, calls)
        self._owns_calls = owns_calls
        self.completions = AsyncCompletions(sync.completions, calls)
        self.chat = AsyncChat(sync.chat, calls)

    request = in_thread(VllmClient.request)

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
        headers: Mapping[str, Optional[str]] = _UNSET,
    ) -> AsyncVllmClient:
        """As :meth:`VllmClient.with_options`."""
        sync = self._sync.with_options(timeout=timeout, max_retries=max_retries, headers=headers)
        copy = object.__new__(type(self))
        copy._wrap(sync, self._calls, owns_calls=False)
        return copy

    async def aclose(self) -> None:
        """End the streams and calls that are open, and close the connections. May be repeated."""
        self._sync.close()
        if self._owns_calls:
            self._calls.shut()

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
        return _unpickled, (self._sync, self._calls.most)


def _unpickled(sync: VllmClient, max_calls: int) -> AsyncVllmClient:
    client = object.__new__(AsyncVllmClient)
    client._wrap(sync, Calls(max_calls), owns_calls=True)
    return client
