"""An exception that is no error, in the middle of an attempt."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from ..recorded import answer, json_bytes
from ..servers import Serve


class LeftError(BaseException):
    """As GreenletExit of gevent: no Exception, and no KeyboardInterrupt."""


def test_other_exceptions_pass_through(serve: Serve) -> None:
    """An exception that ends a thread leaves a call as it is, and the client works after it."""
    raised: Any = [LeftError]

    def hook(response: requests.Response, *_: object, **__: object) -> None:
        if raised:
            raise raised.pop()

    with requests.Session() as session:
        session.hooks["response"].append(hook)
        client = serve(json_bytes(answer("fine")), session=session).client
        with pytest.raises(LeftError):
            client.completions.create(prompt="x")
        assert client.completions.create(prompt="x").text == "fine"
