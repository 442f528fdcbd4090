"""The errors that this library raises, under one root.

::

    VllmError
    ├── APIConnectionError            no complete response: refused, reset, cut off, closed
    │   └── APITimeoutError           … because a time limit expired (also a TimeoutError)
    ├── APIStatusError                the server responded with an error status
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
    │   ├── StreamInterruptedError    the stream ended before it was complete
    │   ├── InvalidStreamError        the response is not a stream of completion chunks
    │   └── StreamConsumedError       the stream was closed before its end and is read again
    ├── GenerationAbortedError        the server aborted the generation (finish reason "abort")
    ├── InvalidResponseError          a success status, but not the expected body
    ├── InvalidAnswerError            the text of the answer does not fit the class asked for
    ├── EvaluationError               a text cannot be scored exactly
    └── BatchError                    a run over many rows cannot begin or go on
        ├── BatchInputError           … a row or a field cannot be sent (also a ValueError)
        ├── BatchLockedError          … another process writes the output file
        ├── BatchChangedError         … the output file belongs to another run
        └── BatchStoppedError         … the first rows all failed alike, or the server went away

If an argument is invalid (an unknown keyword, an empty list of prompts, a bad ``base_url``), the
library raises a plain ``TypeError`` or ``ValueError`` before it sends anything.
"""

from __future__ import annotations

from typing import Any, List, Optional

__all__ = [
    "RETRYABLE_STATUSES",
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BatchChangedError",
    "BatchError",
    "BatchInputError",
    "BatchLockedError",
    "BatchStoppedError",
    "ContextLengthError",
    "EvaluationError",
    "GenerationAbortedError",
    "InternalServerError",
    "InvalidAnswerError",
    "InvalidResponseError",
    "InvalidStreamError",
    "ModelNotFoundError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerStreamError",
    "ServiceUnavailableError",
    "StreamConsumedError",
    "StreamError",
    "StreamInterruptedError",
    "UnprocessableEntityError",
    "VllmError",
]

RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""The HTTP statuses after which a retry may succeed; repeating any other request gives the same
error."""


class VllmError(Exception):
    """The root of the errors: ``except VllmError`` catches every failure of a request.

    Attributes:
        message: What happened and what to do next.
        partial: What arrived before the error. For an error while a stream is read this is the
            stream's snapshot (a :class:`~vllm_client.Completion` or ``ChatCompletion``, possibly
            without choices). For any other error it is None unless text arrived.
        is_retryable: Whether the same request may succeed if you send it again.
        method: The HTTP method, once the call has failed; None elsewhere.
        url: The URL that was called; None elsewhere.
        attempts: How many attempts failed; 0 if a response arrived.
    """

    is_retryable = False
    method: Optional[str] = None
    url: Optional[str] = None
    attempts = 0

    def __init__(self, message: str, *, partial: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.partial: Any = partial

    def __str__(self) -> str:
        return self.message + self._where()

    def _where(self) -> str:
        if self.url is None:
            return ""
        attempts = f", after {self.attempts} attempts" if self.attempts > 1 else ""
        return f" ({self.method} {self.url}{attempts})"

    def _render_traceback_(self) -> List[str]:
        # IPython asks for it.
        from ._tracebacks import rendered  # noqa: PLC0415 — only notebooks need it

        return rendered(self)

    def __reduce__(self) -> tuple[object, ...]:
        # By default pickle rebuilds an exception as cls(*args), which fails for a class with
        # keyword-only arguments. Errors of a worker process must reach its parent.
        return _rebuild, (type(self), self.args), self.__dict__


def _rebuild(cls: type[VllmError], args: tuple[object, ...]) -> VllmError:
    error = cls.__new__(cls, *args)
    error.args = args
    return error


class APIConnectionError(VllmError):
    """No complete response: nothing listens there, the connection broke, or it was closed."""

    is_retryable = True


class APITimeoutError(APIConnectionError, TimeoutError):
    """A time limit of :class:`~vllm_client.Timeout` expired. Also a built-in ``TimeoutError``."""


class APIStatusError(VllmError):
    """The server responded with an HTTP status that is not a success.

    Attributes:
        status_code: The HTTP status.
        message: The server's message, extracted from any known error format.
        error_type: The ``type`` of vLLM's error object, such as ``"BadRequestError"``.
        param: The request field that the server rejects.
        code: The ``code`` of vLLM's error object, usually equal to the status.
        body: The decoded JSON of the response body, or its text if it is not JSON.
        request_id: The ``x-request-id`` header of the response, if the server sends one.
        retry_after: Seconds after which the server asks to be tried again; None if it does not.
    """

    retry_after: Optional[float] = None

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        error_type: Optional[str] = None,
        param: Optional[str] = None,
        code: object = None,
        body: object = None,
        request_id: Optional[str] = None,
        partial: object = None,
    ) -> None:
        super().__init__(message, partial=partial)
        self.status_code = status_code
        self.error_type = error_type
        self.param = param
        self.code: Any = code
        self.body: Any = body
        self.request_id = request_id
        self.is_retryable = status_code in RETRYABLE_STATUSES

    def __str__(self) -> str:
        return f"{self.status_code}: {self.message}{self._where()}"


class BadRequestError(APIStatusError):
    """400: the server rejects a value; ``param`` names the field."""


class ContextLengthError(BadRequestError):
    """400: the prompt, or the prompt and ``max_tokens``, exceeds the model's context."""


class AuthenticationError(APIStatusError):
    """401: the server requires an API key, or rejects the one that was sent."""


class PermissionDeniedError(APIStatusError):
    """403: the route is disabled, or the API key must not use it."""


class NotFoundError(APIStatusError):
    """404: the server has no such route or object."""


class ModelNotFoundError(NotFoundError):
    """404: the server has no model or adapter of that name."""


class UnprocessableEntityError(APIStatusError):
    """422: the request body is JSON, but not of the expected form."""


class RateLimitError(APIStatusError):
    """429: too many requests. vLLM never sends this; gateways in front of it do."""


class InternalServerError(APIStatusError):
    """5xx: the server failed."""


class ServiceUnavailableError(InternalServerError):
    """503: the queue is full, the server is scaling, or its engine has died."""


class StreamError(VllmError):
    """Reading a stream failed; ``partial`` is what arrived before."""


class ServerStreamError(StreamError):
    """The server reported an error inside a stream, after it had sent status 200.

    Attributes:
        error_type: The ``type`` of the error frame.
        param: The request field that the server rejects, if any.
        code: The ``code`` of the error frame: the HTTP status that the error would have had.
        body: The decoded frame.
    """

    def __init__(
        self,
        message: str,
        *,
        error_type: Optional[str] = None,
        param: Optional[str] = None,
        code: object = None,
        body: object = None,
        partial: object = None,
    ) -> None:
        super().__init__(message, partial=partial)
        self.error_type = error_type
        self.param = param
        self.code: Any = code
        self.body: Any = body
        # The code can be any JSON value, and an unhashable one cannot be looked up in a set.
        self.is_retryable = isinstance(code, int) and code in RETRYABLE_STATUSES


class StreamInterruptedError(StreamError):
    """The stream ended before every choice had its finish reason and ``[DONE]`` arrived."""

    is_retryable = True


class InvalidStreamError(StreamError):
    """The response is not a stream of completion chunks, or a chunk cannot be decoded."""


class StreamConsumedError(StreamError):
    """The stream was closed before its end and is read again."""


class GenerationAbortedError(VllmError):
    """The server aborted the generation: it was shut down, paused or told to abort.

    vLLM sends status 200 and the finish reason ``"abort"``. ``partial`` holds the text so far.
    """

    is_retryable = True


class InvalidResponseError(VllmError):
    """The status is a success, but the response body is not what the route returns.

    Attributes:
        body: The decoded JSON of the response body, or its text if it is not JSON.
    """

    def __init__(self, message: str, *, body: object = None, partial: object = None) -> None:
        super().__init__(message, partial=partial)
        self.body: Any = body


class InvalidAnswerError(VllmError):
    """The text of an answer does not fit the class that ``response_format`` or ``parsed_as`` names.

    The response itself is complete: ``partial`` is the whole answer.

    Attributes:
        text: The text of the choice.
        index: The index of the choice.
        finish_reason: Its finish reason; ``"length"`` means that the text was cut.
    """

    def __init__(
        self,
        message: str,
        *,
        text: str = "",
        index: int = 0,
        finish_reason: Optional[str] = None,
        partial: object = None,
    ) -> None:
        super().__init__(message, partial=partial)
        self.text = text
        self.index = index
        self.finish_reason = finish_reason


class EvaluationError(VllmError):
    """A text cannot be scored exactly: the server has no such scores, or not all fits."""


class BatchError(VllmError):
    """A run over many rows cannot begin or go on. Rows that fail alone are no error of the run."""


class BatchInputError(BatchError, ValueError):
    """A row, or a field of all rows, cannot be sent."""


class BatchLockedError(BatchError):
    """Another process writes this output file."""


class BatchChangedError(BatchError):
    """The output file belongs to a run with another input, route or parameters."""


class BatchStoppedError(BatchError):
    """The first rows all failed alike, or the server was away for longer than ``patience``."""
