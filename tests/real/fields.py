"""Checks: every field once, streamed and whole; and that both give the same."""

from __future__ import annotations

from typing import Any, Dict, Optional

from vllm_client import APIStatusError, ServerStreamError, VllmClient

from .compare import compare, fails_in_streams
from .samples import BASES, Sample, fields_of
from .servers import Server
from .table import KnownBehaviourError, check, raised


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
        if fails_in_streams(fields):
            error = raised(ServerStreamError, lambda: streamed(client, route, fields))
            raise KnownBehaviourError(
                f"echo, logprobs and n: the stream ends in an error frame, {error.message!r}"
            )
        compare(fields, whole, streamed(client, route, fields))


def _run(server: Server, route: str, name: str, sample: Optional[Sample]) -> None:
    assert sample is not None, "tests/real/samples.py has no value for this field"
    fields = {**BASES[route], **sample.beside, name: sample.value}
    with server.client() as client:
        try:
            _try(client, route, fields, sample, is_plain=server.kind.name == "plain")
        except APIStatusError as error:
            if sample.refused and sample.refused in str(error):
                raise KnownBehaviourError(
                    f"refused: {' '.join(error.message.split())[:100]}"
                ) from None
            raise


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


for _route in BASES:
    for _name, _sample in fields_of(_route).items():
        _register(_route, _name, _sample)
