"""Checks: every field once, streamed and whole; and that both give the same."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set

from vllm_client import APIStatusError, BadRequestError, ServerStreamError, VllmClient

from .compare import compare, may_fail_in_streams
from .samples import BASES, Sample, fields_of
from .servers import Server
from .table import KnownBehaviourError, check, raised

FIELDS = Path(__file__).parents[1] / "data" / "fields"


def asked(client: VllmClient, route: str, fields: Dict[str, Any]) -> Any:
    """The whole response."""
    resource: Any = client.completions if route == "completions" else client.chat.completions
    return resource.create(**fields)


def streamed(client: VllmClient, route: str, fields: Dict[str, Any]) -> Any:
    """The collected stream."""
    resource: Any = client.completions if route == "completions" else client.chat.completions
    with resource.stream(**fields) as stream:
        return stream.collect()


def both(server: Server, route: str, fields: Dict[str, Any]) -> None:
    """Send the request whole and streamed, and compare."""
    with server.client() as client:
        whole = asked(client, route, fields)
        try:
            collected = streamed(client, route, fields)
        except ServerStreamError as error:
            if not may_fail_in_streams(fields):
                raise
            raise KnownBehaviourError(
                f"echo, logprobs and n: the stream ends in an error frame, {error.message!r}"
            ) from None
        compare(fields, whole, collected)


@contextlib.contextmanager
def known_refusal(sample: Sample) -> Iterator[None]:
    """Turn the error of a server without the right setting into a known behaviour."""
    try:
        yield
    except APIStatusError as error:
        if sample.refused and sample.refused in str(error):
            message = " ".join(error.message.split())[:100]
            raise KnownBehaviourError(f"refused: {message}") from None
        raise


def _run(server: Server, route: str, name: str, sample: Optional[Sample]) -> None:
    assert sample is not None, "tests/real/samples.py has no value for this field"
    fields = {**BASES[route], **sample.beside, name: sample.value}
    with server.client() as client, known_refusal(sample):
        _try(client, route, fields, sample, is_plain=server.kind.name == "plain")


def _try(
    client: VllmClient, route: str, fields: Dict[str, Any], sample: Sample, *, is_plain: bool
) -> None:
    answers = []
    if sample.whole:
        answers.append(asked(client, route, fields))
    if sample.streams:
        answers.append(streamed(client, route, fields))
    else:
        raised(ValueError, lambda: streamed(client, route, fields))
    seen = sample.seen if is_plain or not sample.plain_only else None
    for answer in answers:
        assert seen is None or seen(answer), f"no effect in {str(answer)[:200]}"
    if len(answers) == 2:
        compare(fields, *answers)


def _register(route: str, name: str, sample: Optional[Sample]) -> None:
    @check(f"fields of {route}", name, "plain", "parsers")
    def run(server: Server) -> None:
        _run(server, route, name, sample)


def _register_nulls(route: str) -> None:
    @check("null instead of a value", route, "plain")
    def run(server: Server) -> str:
        with server.client() as client:
            refused = {name for name in fields_of(route) if _is_refused(client, route, name)}
            wanted = _not_null(route, client.request("GET", "/version").json()["version"])
        assert refused == wanted, f"{sorted(refused ^ wanted)}"
        return f"{len(refused)} of {len(fields_of(route))} are refused"


def _not_null(route: str, version: str) -> Set[str]:
    """The fields of which the package says that they are not None, without later ones."""
    told = (FIELDS / f"{route}-not-null.txt").read_text(encoding="utf-8").split()
    since = [line.split() for line in (FIELDS / "since.txt").read_text("utf-8").splitlines()]
    later = {name for at, name, first in since if at == route and _number(first) > _number(version)}
    return {*told} - later


def _number(version: str) -> List[int]:
    return [int(part) for part in version.split("+", maxsplit=1)[0].split(".")[:2]]


def _is_refused(client: VllmClient, route: str, name: str) -> bool:
    if name in {"prompt", "messages"}:  # The package refuses them itself.
        return False
    try:
        asked(client, route, {**BASES[route], name: None})
    except BadRequestError:
        return True
    return False


for _route in BASES:
    _register_nulls(_route)
    for _name, _sample in fields_of(_route).items():
        _register(_route, _name, _sample)
