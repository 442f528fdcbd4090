"""Every error this library raises of its own, under one root.

::

    VllmError
    ├── APIConnectionError            no whole answer came: refused, reset, cut, closed
    │   └── APITimeoutError           … because time ran out (also a TimeoutError)
    ├── APIStatusError                the server answered with an error status
    │   ├── BadRequestError           400
    │   │   └── ContextLengthError    … because the prompt is too long for the model
    │   ├── AuthenticationError       401
    │   ├── PermissionDeniedError     403
    │   ├── NotFoundError             404
    │   │   └── ModelNotFoundError    … because no model or adapter has that name
    │   ├── UnprocessableEntityError  422
    │   ├── RateLimitError            429
    │   └── InternalServerError       5xx
    │       └── ServiceUnavailableError  503
    ├── StreamError
    │   ├── ServerStreamError         the server reported an error inside the stream
    │   ├── StreamInterruptedError    the stream ended before its answer was whole
    │   ├── InvalidStreamError        what came is not a stream of completion chunks
    │   └── StreamConsumedError       the stream was closed and is read again
    ├── GenerationAbortedError        the server gave up the generation (finish reason "abort")
    └── InvalidResponseError          a success status, but not the answer asked for

Misuse that is known before anything is sent (an unknown keyword, an empty list of prompts, a bad
``base_url``) is a plain ``TypeError`` or ``ValueError``.
"""

from __future__ import annotations

from typing import Any, Optional

RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""The statuses that are worth another attempt; everything else stays wrong when repeated."""


class VllmError(Exception):
    """The root: ``except VllmError`` catches whatever goes wrong between you and the server.

    Attributes:
        message: What happened and what to do next.
        partial: What had arrived. While a stream is read always its snapshot (a
            :class:`~vllm_client.Completion` or ``ChatCompletion``, perhaps without choices);
            elsewhere None unless there is text.
        is_retryable: Whether the same request, sent again, may well succeed.
        method: The HTTP method, once the call has failed; None elsewhere.
        url: The URL that was called; None elsewhere.
        attempts: How many attempts failed; 0 if a response arrived.
    """

    is_retryable = False
    method: Optional[str] = None
    url: Optional[str] = None
    attempts = 0

    def __init__(self, message: str, *, partial: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.partial = partial

    def __str__(self) -> str:
        return self.message + self._where()

    def _where(self) -> str:
        if self.url is None:
            return ""
        attempts = f", after {self.attempts} attempts" if self.attempts > 1 else ""
        return f" ({self.method} {self.url}{attempts})"

    def __reduce__(self) -> tuple[Any, ...]:
        # By default an exception is rebuilt as cls(*args), which fails for any class with
        # keyword arguments; an error has to survive the way back from a worker process.
        return _rebuild, (type(self), self.args), self.__dict__


def _rebuild(cls: type[VllmError], args: tuple[Any, ...]) -> VllmError:
    error = cls.__new__(cls, *args)
    error.args = args
    return error


class APIConnectionError(VllmError):
    """No whole answer came: nothing listens there, the connection broke, or it was closed."""

    is_retryable = True


class APITimeoutError(APIConnectionError, TimeoutError):
    """A limit of :class:`~vllm_client.Timeout` passed. Also a built-in ``TimeoutError``."""


class APIStatusError(VllmError):
    """The server answered with a status that is not a success.

    Attributes:
        status_code: The HTTP status.
        message: The server's own words, found in whichever shape its body has.
        error_type: The ``type`` of vLLM's error object, such as ``"BadRequestError"``.
        param: The request field the server objects to.
        code: The ``code`` of vLLM's error object, usually the status again.
        body: The decoded JSON of the body, else its text.
        request_id: The response's ``x-request-id``, if the server sends one.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        error_type: Optional[str] = None,
        param: Optional[str] = None,
        code: Any = None,
        body: Any = None,
        request_id: Optional[str] = None,
        partial: Any = None,
    ) -> None:
        super().__init__(message, partial=partial)
        self.status_code = status_code
        self.error_type = error_type
        self.param = param
        self.code = code
        self.body = body
        self.request_id = request_id
        self.is_retryable = status_code in RETRYABLE_STATUSES

    def __str__(self) -> str:
        return f"{self.status_code}: {self.message}{self._where()}"


class BadRequestError(APIStatusError):
    """400: the server refuses a value; ``param`` names the field."""


class ContextLengthError(BadRequestError):
    """400: prompt, or prompt and ``max_tokens``, do not fit into the model's context."""


class AuthenticationError(APIStatusError):
    """401: the server wants a key, or another one."""


class PermissionDeniedError(APIStatusError):
    """403: the route is switched off, or the key may not use it."""


class NotFoundError(APIStatusError):
    """404: the server has no such route or thing."""


class ModelNotFoundError(NotFoundError):
    """404: the server serves no model and no adapter of that name."""


class UnprocessableEntityError(APIStatusError):
    """422: the body is JSON, but not of the right shape."""


class RateLimitError(APIStatusError):
    """429: too many requests; vLLM itself never says so, gateways before it do."""


class InternalServerError(APIStatusError):
    """5xx: the server failed."""


class ServiceUnavailableError(InternalServerError):
    """503: the queue is full, the server scales or its engine is gone."""


class StreamError(VllmError):
    """Something went wrong while a stream was read; ``partial`` is what had arrived."""


class ServerStreamError(StreamError):
    """The server reported an error inside a stream whose status was 200 already.

    Attributes:
        error_type: The ``type`` of the error frame.
        param: The request field the server objects to, if any.
        code: The ``code`` of the error frame: the status the error would have had.
        body: The decoded frame.
    """

    def __init__(
        self,
        message: str,
        *,
        error_type: Optional[str] = None,
        param: Optional[str] = None,
        code: Any = None,
        body: Any = None,
        partial: Any = None,
    ) -> None:
        super().__init__(message, partial=partial)
        self.error_type = error_type
        self.param = param
        self.code = code
        self.body = body
        # The code is whatever the server wrote, and a list cannot be looked up in a set.
        self.is_retryable = isinstance(code, int) and code in RETRYABLE_STATUSES


class StreamInterruptedError(StreamError):
    """The stream ended before every choice was finished and ``[DONE]`` had come."""

    is_retryable = True


class InvalidStreamError(StreamError):
    """The answer is not a stream of completion chunks, or one of them cannot be decoded."""


class StreamConsumedError(StreamError):
    """The stream was closed before it was read to its end, and is read again."""


class GenerationAbortedError(VllmError):
    """The server gave up the generation: shut down, paused or told to abort.

    vLLM sends status 200 and the finish reason ``"abort"``; ``partial`` holds the text so far.
    """

    is_retryable = True


class InvalidResponseError(VllmError):
    """A success status, but the body is not the answer that was asked for.

    Attributes:
        body: The decoded JSON of the body, else its text.
    """

    def __init__(self, message: str, *, body: Any = None, partial: Any = None) -> None:
        super().__init__(message, partial=partial)
        self.body = body
