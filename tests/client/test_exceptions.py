"""The tree of errors: as its docstring draws it, and each error can be pickled and copied."""

from __future__ import annotations

import copy
import logging
import pickle
import re
import traceback
from typing import Any, Dict, List, Optional, Tuple, Type

import pytest

import vllm_client
from vllm_client import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    InvalidAnswerError,
    InvalidResponseError,
    ServerStreamError,
    VllmClient,
    VllmError,
    exceptions,
)
from vllm_client.types import Completion, CompletionChoice

from ..servers import Connection, Serve, Served, break_off

PARTIAL = Completion("cmpl-1", "m", 1, [CompletionChoice(0, "half an ans")])
KEY = "sk-very-secret-0123456789"


def subclasses(cls: Type[VllmError]) -> List[Type[VllmError]]:
    return [cls, *(below for child in cls.__subclasses__() for below in subclasses(child))]


CLASSES = [cls for cls in subclasses(VllmError) if cls.__module__ == exceptions.__name__]


def drawn() -> Dict[str, Optional[str]]:
    """Each class of the drawing, and the class that it hangs from."""
    parents: Dict[str, Optional[str]] = {}
    above: List[Tuple[int, str]] = []
    for line in (exceptions.__doc__ or "").split("::")[1].splitlines():
        found = re.match(r"    ([ │├└─]*)(\w+Error)\b", line)
        if found:
            depth = len(found.group(1))
            above = [(other, name) for other, name in above if other < depth]
            parents[found.group(2)] = above[-1][1] if above else None
            above.append((depth, found.group(2)))
    return parents


def example(cls: Type[VllmError], message: str = "what happened") -> VllmError:
    """An error whose attributes all differ from their defaults."""
    given: Dict[str, Any] = {"partial": PARTIAL}
    if issubclass(cls, APIStatusError):
        given.update(status_code=503, error_type="T", param="p", code=7, body={"a": [1]})
        given["request_id"] = "req-1"
    elif issubclass(cls, ServerStreamError):
        given.update(error_type="T", param="p", code=503, body={"a": [1]})
    elif issubclass(cls, InvalidResponseError):
        given["body"] = {"a": [1]}
    elif issubclass(cls, InvalidAnswerError):
        given.update(text="half an ans", index=2, finish_reason="length")
    return cls(message, **given)


def test_drawing_is_the_tree() -> None:
    """The tree in the docstring is the tree of the classes."""
    actual = {}
    for cls in CLASSES:
        parents = [base.__name__ for base in cls.__bases__ if issubclass(base, VllmError)]
        actual[cls.__name__] = parents[0] if parents else None
    assert drawn() == actual
    assert len(actual) > 20


@pytest.mark.parametrize("cls", CLASSES)
def test_exported_at_the_top(cls: Type[VllmError]) -> None:
    """Every error can be imported from the package itself."""
    assert getattr(vllm_client, cls.__name__) is cls


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("cls", CLASSES)
def test_pickles(cls: Type[VllmError], protocol: int) -> None:
    """Pickling keeps class, message and all attributes of an error."""
    error = example(cls)
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is cls
    assert vars(back) == vars(error)
    assert (str(back), back.args) == (str(error), error.args)
    assert back.partial == PARTIAL


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("cls", CLASSES)
def test_copies(cls: Type[VllmError], copied: Any) -> None:
    """Copy and deepcopy keep class, message and all attributes of an error."""
    error = example(cls)
    error.is_retryable = not error.is_retryable
    back = copied(error)
    assert back is not error
    assert (type(back), vars(back), back.args) == (cls, vars(error), error.args)


def test_subclass_of_the_user_pickles() -> None:
    """A subclass with an __init__ of its own can be pickled too."""
    error = CustomError(3)
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), back.number, str(back)) == (CustomError, 3, "number 3")


class CustomError(VllmError):
    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}")
        self.number = number


RETRYABLE = {
    "APIConnectionError",
    "APITimeoutError",
    "StreamInterruptedError",
    "GenerationAbortedError",
}


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if not issubclass(cls, APIStatusError)])
def test_retryable_by_class(cls: Type[VllmError]) -> None:
    """Errors of the connection are retryable, others are not."""
    assert cls("x").is_retryable is (cls.__name__ in RETRYABLE)


@pytest.mark.parametrize("status", [300, 307, *range(400, 432), 451, *range(500, 512), 599])
def test_retryable_by_status(status: int) -> None:
    """A status or code is retryable if another attempt may succeed."""
    expected = status in {408, 429, 500, 502, 503, 504}
    assert APIStatusError("x", status_code=status).is_retryable is expected
    assert ServerStreamError("x", code=status).is_retryable is expected


@pytest.mark.parametrize("code", [None, [], {}, "503", 503.0, "teapot"])
def test_code_of_any_kind(code: Any) -> None:
    """A code that is not a number makes the error not retryable."""
    assert ServerStreamError("x", code=code).is_retryable is False


@pytest.mark.parametrize("cls", CLASSES)
def test_message_and_str(cls: Type[VllmError]) -> None:
    """str() is the message after the status, if there is one; `message` is the message alone."""
    error = example(cls)
    prefix = "503: " if issubclass(cls, APIStatusError) else ""
    assert str(error) == f"{prefix}what happened"
    assert error.message == "what happened"
    assert repr(error) == f"{cls.__name__}('what happened')"


def test_timeout_is_the_built_in_one() -> None:
    """An APITimeoutError is a TimeoutError and an APIConnectionError."""
    assert issubclass(APITimeoutError, TimeoutError)
    assert issubclass(APITimeoutError, APIConnectionError)


def echoing(connection: Connection) -> None:
    """Answer with an error that repeats the headers of the request."""
    headers = connection.request.headers
    message = f"no user for {headers.get('authorization')}"
    body = {"error": {"message": message, "headers": headers, "code": 401}}
    connection.send_json(body, "401 Unauthorized", f"x-echo: {message}\r\n")


def refused(served: Served) -> VllmError:
    """The error of a call."""
    with pytest.raises(VllmError) as caught:
        served.client.completions.create(prompt="x")
    return caught.value


def test_key_is_in_no_error(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A key that the server repeats is in no error and in no log."""
    caplog.set_level(logging.DEBUG)
    served = serve(echoing, api_key=KEY, max_retries=0)
    error = refused(served)
    assert KEY in served.requests[0].head.decode()
    shown = [str(error), repr(error), repr(error.args), repr(vars(error)), caplog.text]
    shown.append("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    assert not [text for text in shown if KEY in text]
    assert KEY.encode() not in pickle.dumps(error)
    assert "no user for Bearer ***" in str(error)


def test_key_is_in_no_connection_error(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """No error of the connection, nor its causes, holds the headers of the request."""
    caplog.set_level(logging.DEBUG)
    served = serve(break_off(), api_key=KEY, max_retries=0)
    error: Optional[BaseException] = refused(served)
    causes = []
    while error is not None:
        causes.append(error)
        error = error.__cause__ or error.__context__
    assert len(causes) > 1
    for cause in causes:
        request = getattr(cause, "request", None)
        assert KEY not in f"{cause} {cause!r} {vars(cause)} {getattr(request, 'headers', '')}"
    assert KEY not in caplog.text


def test_key_is_in_no_repr_of_the_client() -> None:
    """The repr of a client does not show the key; its pickle must hold it."""
    with VllmClient("localhost:8000", api_key=KEY) as client:
        assert repr(client) == str(client) == "VllmClient('http://localhost:8000/v1')"
        assert KEY not in repr(client.completions)
        assert KEY.encode() in pickle.dumps(client)
