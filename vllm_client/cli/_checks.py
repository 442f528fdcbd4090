"""The checks of ``vllm-client doctor``, in the order in which a request would fail."""

from __future__ import annotations

import argparse
import difflib
import os
from time import perf_counter
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Literal,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
)

from .._http import probe
from ..client import VllmClient
from ..exceptions import (
    APIStatusError,
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    VllmError,
)
from ..streams import CompletionStream
from ..timeouts import Timeout
from ..types.model import Model

__all__ = ["Finding", "findings"]

_PATIENCE = 5.0
"""Seconds for a connection."""
_TOKENS = 32
"""Length of the stream that is looked at."""

State = Literal["ok", "warning", "failed", "skipped"]
Outcome = Tuple[State, str, str]
"""State, words and advice of a :class:`Finding`."""


class Finding(NamedTuple):
    """The result of a check.

    Attributes:
        check: The name of the check.
        state: After ``"failed"`` no further check makes sense.
        words: What was found.
        advice: What to do; empty if nothing.
    """

    check: str
    state: State
    words: str
    advice: str = ""


class Case:
    """What the checks share."""

    def __init__(self, arguments: argparse.Namespace, client: VllmClient) -> None:
        self.client = client
        self.model: Optional[str] = arguments.model
        self.idle: Optional[float] = arguments.idle
        key = os.environ.get("VLLM_API_KEY") if arguments.api_key is None else arguments.api_key
        self.has_key = bool(key) and not arguments.demo
        self.proxy: Optional[str] = None
        self.models: List[Model] = []
        self.tokens_per_second = 0.0

    @property
    def max_model_len(self) -> int:
        """The length of the context; 0 if the server does not tell it."""
        lengths = {model.id: model.max_model_len or 0 for model in self.models}
        return lengths.get(self.model or "", next(iter(lengths.values()), 0))

    @property
    def params(self) -> Dict[str, Any]:
        """The request fields of a tiny completion."""
        params: Dict[str, Any] = {"prompt": "Once upon a time", "temperature": 0}
        return {**params, "model": self.model} if self.model else params


def findings(arguments: argparse.Namespace, client: VllmClient) -> Iterator[Finding]:
    """Make the checks, one after the other, up to the first that fails."""
    limits = Timeout(_PATIENCE, 120.0) if arguments.timeout is None else client.timeout
    case = Case(arguments, client.with_options(max_retries=0, timeout=limits))
    for name, check in _CHECKS.items():
        state, words, advice = check(case)
        yield Finding(name, state, words, advice)
        if state == "failed":
            return


def _address(case: Case) -> Outcome:
    url = case.client.base_url
    try:
        found = probe.addresses(url)
    except OSError as error:
        if probe.proxy_of(url):
            return "ok", f"{url} (its name is left to the proxy)", ""
        advice = "check the spelling of --base-url or VLLM_BASE_URL, the network and the VPN"
        return "failed", f"{url}: the name of the host has no address ({error})", advice
    return "ok", f"{url} is {', '.join(found)}", ""


def _proxy(case: Case) -> Outcome:
    case.proxy = proxy = probe.proxy_of(case.client.base_url)
    if proxy is None:
        return "ok", "none: the server is reached directly", ""
    try:
        probe.check_connection(proxy, _PATIENCE)
    except OSError as error:
        advice = "start it, or correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY in the environment"
        return "failed", f"{proxy} cannot be reached: {error}", advice
    if probe.is_local(case.client.base_url):
        advice = "NO_PROXY=localhost,127.0.0.1 reaches a server of this machine directly"
        return "warning", f"requests to this machine go through {proxy}", advice
    return "ok", f"requests go through {proxy}", ""


def _connection(case: Case) -> Outcome:
    if case.proxy:
        return "skipped", "the proxy opens it", ""
    try:
        probe.check_connection(case.client.base_url, _PATIENCE)
    except TimeoutError:
        advice = "a firewall may drop it; check host and port"
        return "failed", f"no connection within {_PATIENCE:g} s", advice
    except OSError as error:
        advice = "is `vllm serve` running there, on this port? In a container: --host 0.0.0.0"
        return "failed", f"no connection: {error}", advice
    return "ok", "the port is open", ""


def _tls(case: Case) -> Outcome:
    url = case.client.base_url
    if not url.startswith("https:"):
        return "skipped", "the address is http", ""
    if case.proxy:
        return "skipped", "through the proxy", ""
    try:
        return "ok", probe.check_tls(url, _PATIENCE), ""
    except OSError as error:
        return "failed", str(error), _tls_advice(str(error))


def _tls_advice(message: str) -> str:
    if "WRONG_VERSION_NUMBER" in message or "EOF" in message or "record layer" in message:
        return "the server may speak http: write http:// in the address"
    if "expired" in message:
        return "the certificate has expired: the server needs a new one"
    if "match" in message or "not valid for" in message:
        return "the certificate is for another name: use that name in the address"
    return "REQUESTS_CA_BUNDLE=FILE trusts the certificates of your own authority"


def _key(case: Case) -> Outcome:
    try:
        case.models = case.client.models.list()
    except (AuthenticationError, PermissionDeniedError) as error:
        advice = "pass --api-key KEY or set VLLM_API_KEY to the key of `vllm serve --api-key`"
        sent = "the key is refused" if case.has_key else "the server wants a key, and none is set"
        return "failed", f"{sent} ({error.status_code})", advice
    except NotFoundError as error:
        advice = "the address should end in /v1, or what a gateway puts before it"
        return "failed", f"no list of models there: {error}", advice
    except VllmError as error:
        return "failed", str(error), _server_advice(error)
    return "ok", "accepted" if case.has_key else "none is set, and none is wanted", ""


def _server_advice(error: VllmError) -> str:
    text = str(error)
    if isinstance(error, APIStatusError) and error.status_code in {502, 503, 504}:
        return "the server starts, or its engine is gone: see its log; health --wait waits"
    if "CERTIFICATE" in text:
        return _tls_advice(text)
    if "http" in text and "closed" in text:
        return "if the server has TLS, write https:// in the address"
    return "see the log of the server, and of what is before it"


def _health(case: Case) -> Outcome:
    try:
        healthy = case.client.server.health()
    except VllmError as error:
        return "warning", str(error), "a gateway may not pass /health on; everything else may work"
    if healthy:
        return "ok", "the engine lives", ""
    return "failed", "the engine does not answer", "see the log of the server, and restart it"


def _version(case: Case) -> Outcome:
    try:
        return "ok", f"vLLM {case.client.server.version()}", ""
    except VllmError as error:
        return "warning", str(error), "this is no vLLM, or a gateway does not pass /version on"


def _model(case: Case) -> Outcome:
    names = [model.id for model in case.models]
    if not names:
        return "failed", "the server has no model", "see its log"
    if case.model is None:
        return "ok", f"{names[0]} (of {', '.join(names)})" if names[1:] else names[0], ""
    if case.model in names:
        return "ok", case.model, ""
    near = difflib.get_close_matches(case.model, names, 1) or names
    return "failed", f"no model {case.model!r}", f"--model {near[0]}"


def _completion(case: Case) -> Outcome:
    started = perf_counter()
    try:
        case.client.completions.create(max_tokens=1, **case.params)
    except NotFoundError as error:
        return "failed", str(error), "a pooling model has embed, score or rerank instead"
    except VllmError as error:
        return "failed", str(error), _server_advice(error)
    return "ok", f"a token in {perf_counter() - started:.2f} s", ""


def _streaming(case: Case) -> Outcome:
    try:
        with case.client.completions.stream(
            max_tokens=_TOKENS, min_tokens=_TOKENS, **case.params
        ) as stream:
            stream.collect()
    except VllmError as error:
        return "failed", str(error), _server_advice(error)
    timings = stream.timings
    case.tokens_per_second = timings.output_tokens_per_second or 0.0
    between = _intermediaries(stream.response.headers)
    through = f", through {between}" if between else ""
    arrivals = len(set(timings.stamps))
    if timings.chunks < 4:
        return "skipped", f"{timings.chunks} chunks are too few to tell{through}", ""
    if _is_buffered(stream, arrivals):
        advice = "switch buffering off in what is between, such as proxy_buffering off in nginx"
        return "warning", f"{timings.chunks} chunks came in {arrivals} pieces{through}", advice
    return "ok", f"{timings.chunks} chunks came one by one{through}", ""


def _is_buffered(stream: CompletionStream, arrivals: int) -> bool:
    """Whether the chunks were held back: few pieces, and all of them at the end."""
    stamps, duration = stream.timings.stamps, stream.timings.duration
    return arrivals <= len(stamps) / 4 and stamps[-1] - stamps[0] < duration / 10


def _intermediaries(headers: Mapping[str, str]) -> str:
    """What the headers tell about a gateway; vLLM itself is ``uvicorn``."""
    found: List[str] = [headers[name] for name in ("via", "server") if name in headers]
    found += ["Cloudflare"] if "cf-ray" in headers else []
    return ", ".join(each for each in found if "uvicorn" not in each and "fake" not in each.lower())


def _idle(case: Case) -> Outcome:
    if case.idle is None:
        return "skipped", "not tried; --idle 70 waits so long for a response", ""
    tokens = max(1, min(int(case.idle * case.tokens_per_second), case.max_model_len - 64))
    client = case.client.with_options(timeout=Timeout(_PATIENCE, 3 * case.idle + 60))
    started = perf_counter()
    try:
        client.completions.create(max_tokens=tokens, min_tokens=tokens, **case.params)
    except VllmError as error:
        waited = perf_counter() - started
        advice = (
            "raise the time-outs of what is between, such as proxy_read_timeout; or use streams"
        )
        return "failed", f"cut after {waited:.0f} s of silence: {error}", advice
    waited = perf_counter() - started
    if waited < case.idle:
        words = f"only {waited:.1f} s of silence, which passed: the context is too short for more"
        return "skipped", words, ""
    return "ok", f"{waited:.1f} s of silence passed", ""


_CHECKS: Dict[str, Callable[[Case], Outcome]] = {
    "address": _address,
    "proxy": _proxy,
    "connection": _connection,
    "TLS": _tls,
    "key": _key,
    "health": _health,
    "version": _version,
    "model": _model,
    "completion": _completion,
    "streaming": _streaming,
    "idle": _idle,
}
