"""Secrets are removed from errors before the errors are logged or raised.

A server may repeat the key of a request in its error message. Every error made from what a server
or a library wrote passes through here: ``attempts`` for failed attempts, ``OpenResponse.redacting``
for bodies.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
from typing import Callable, Iterable, Iterator, List, Mapping, Optional, Set, Tuple
from urllib.parse import quote, unquote

import requests
import requests.auth
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
        others: Returns further credentials: those of ``.netrc`` or of the user's session.
    """

    api_key: Optional[str]
    headers: Mapping[str, object]
    others: Callable[[], Iterable[str]] = tuple

    @property
    def values(self) -> Tuple[str, ...]:
        """The texts that must not appear in an error, the longest first."""
        values = {self.api_key or "", *header_texts(self.headers), *self.others()}
        return tuple(sorted((v for v in values if len(v) > SHORTEST_SECRET), key=len, reverse=True))

    @contextlib.contextmanager
    def redacting(self) -> Iterator[None]:
        """A context in which the ``VllmError`` that leaves it is redacted."""
        try:
            yield
        except VllmError as error:
            self.redact(error)
            self.hide_causes(error)
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

    def redacted(self, text: str) -> str:
        """The text without the secrets; done before a text is cut, which may cut a secret."""
        return str(_redacted(text, self.values))

    def hide_causes(self, error: BaseException) -> None:
        """Remove the secrets from the errors of libraries below this one.

        Their tracebacks are removed too: the frames of urllib3 hold the headers of the request,
        and tools that report errors send the variables of every frame.
        """
        values = self.values
        below, seen = [error.__cause__, error.__context__], {id(error)}
        while below:
            cause = below.pop()
            if cause is None or id(cause) in seen:
                continue
            seen.add(id(cause))
            below += [cause.__cause__, cause.__context__]
            below += [arg for arg in cause.args if isinstance(arg, BaseException)]
            cause.__traceback__ = None
            _clean(cause, values)


def header_texts(headers: Mapping[str, object]) -> Set[str]:
    """The credentials in an ``Authorization`` header, as it has them and decoded."""
    found: Set[str] = set()
    for name in headers:
        if name.lower() == "authorization":
            scheme, _, credentials = str(headers[name]).rpartition(" ")
            found |= {credentials, *_decoded_login(scheme, credentials)}
    return found


def login_texts(user: object, password: object) -> Set[str]:
    """A password, and the login as it is sent."""
    if not isinstance(user, (str, bytes)) or not isinstance(password, (str, bytes)):
        return set()  # Some other kind of auth object.
    clear = password if isinstance(password, str) else password.decode("latin-1")
    try:
        sent = requests.auth._basic_auth_str(user, password)
    except UnicodeEncodeError:  # It is not sent: the same error is that of the request.
        return {clear}
    return {clear, sent.rpartition(" ")[2]}


def url_login_texts(url: str) -> Set[str]:
    """The login in a URL and its parts, as they are written there and decoded.

    A library takes a password with a slash or an at sign for the host, and quotes a part of it.
    """
    login = re.sub(r"^\w*://", "", url).rpartition("@")[0]
    written = {login, login.partition(":")[2], *re.split("[:/@?#]", login)}
    return written | set(map(unquote, written))


def _decoded_login(scheme: str, credentials: str) -> List[str]:
    if scheme.lower() != "basic":
        return []
    try:
        return base64.b64decode(credentials).decode("utf-8").split(":", 1)
    except ValueError:
        return []


def _clean(cause: BaseException, secrets: Tuple[str, ...]) -> None:
    if isinstance(cause, requests.RequestException):
        cause.request = None  # It holds the headers.
    texts = {name: value for name, value in vars(cause).items() if isinstance(value, str)}
    if not secrets or isinstance(cause, VllmError):
        return
    with contextlib.suppress(AttributeError, TypeError):  # Some attributes are read-only.
        cause.args = tuple(
            _redacted(arg, secrets) if not isinstance(arg, BaseException) else arg
            for arg in cause.args
        )
        for name, value in {**texts, "doc": getattr(cause, "doc", None)}.items():
            if isinstance(value, str):
                setattr(cause, name, _redacted(value, secrets))


def _redacted(value: object, secrets: Tuple[str, ...], depth: int = 0) -> object:
    if isinstance(value, str):
        for secret in secrets:
            for spelling in _spellings(secret):
                value = _without_cut(value.replace(spelling, "***"), spelling)
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


def _spellings(secret: str) -> Set[str]:
    """A secret as JSON, Python, a URL and HTML spell it."""
    in_url = {quote(secret, safe=""), quote(secret)}
    in_html = html.escape(secret)
    return {
        secret,
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        *in_url,
        *(re.sub("%..", lambda found: found[0].lower(), each) for each in in_url),
        in_html,
        in_html.replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    }


def _without_cut(text: str, secret: str) -> str:
    """The text without the beginning of a secret at the place where the text was cut."""
    end = len(text.rstrip("'\"… )"))
    for length in range(min(len(secret) - 1, end), SHORTEST_SECRET, -1):
        if text.endswith(secret[:length], 0, end):
            return f"{text[: end - length]}***{text[end:]}"
    return text
