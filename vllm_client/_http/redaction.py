"""Secrets are removed from errors before the errors are logged or raised.

A server may repeat the key of a request in its error message. Every error made from what a server
or a library wrote passes through here: ``attempts`` for failed attempts, ``OpenResponse.redacting``
for bodies.
"""

from __future__ import annotations

import contextlib
import json
from typing import Iterator, Mapping, Optional, Tuple

from attrs import frozen

from ..exceptions import VllmError

SHORTEST_SECRET = 5
"""Characters. A key that is not longer is a common word, such as ``EMPTY``."""
_DEEPEST = 50


@frozen(eq=False, repr=False)
class Secrets:
    """The credentials of one request.

    Args:
        api_key: The key of the client.
        headers: The headers of the request, perhaps with an ``Authorization`` of the user's.
    """

    api_key: Optional[str]
    headers: Mapping[str, object]

    @property
    def values(self) -> Tuple[str, ...]:
        """The texts that must not appear in an error."""
        named = [str(self.headers[name]) for name in self.headers if name.lower() == _HEADER]
        values = [self.api_key, *(value.rpartition(" ")[2] for value in named)]
        return tuple(value for value in values if value and len(value) > SHORTEST_SECRET)

    @contextlib.contextmanager
    def redacting(self) -> Iterator[None]:
        """A context in which the ``VllmError`` that leaves it is :meth:`redacted`."""
        try:
            yield
        except VllmError as error:
            self.redact(error)
            raise

    def redact(self, error: VllmError) -> None:
        """Replace the secrets in an error by ``***``; ``partial``, the model's text, stays."""
        values = self.values
        if not values:
            return
        error.args = tuple(_redacted(value, values) for value in error.args)
        for name, value in vars(error).items():
            if name != "partial":
                setattr(error, name, _redacted(value, values))


_HEADER = "authorization"


def _redacted(value: object, secrets: Tuple[str, ...], depth: int = 0) -> object:
    if isinstance(value, str):
        for secret in secrets:
            # Also as a string of JSON or of Python spells it.
            for spelling in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]):
                value = value.replace(spelling, "***")
        return value
    if not isinstance(value, (list, tuple, dict)):
        return value
    if depth == _DEEPEST:
        return None  # Too deep to search, so it is not shown either.
    if isinstance(value, dict):
        return {
            _redacted(key, secrets): _redacted(item, secrets, depth + 1)
            for key, item in value.items()
        }
    return type(value)(_redacted(item, secrets, depth + 1) for item in value)
