"""OpenTelemetry's instrumentations of requests and urllib3 trace our calls, without settings."""

from __future__ import annotations

from typing import Any, Iterator, List

import pytest

from vllm_client import BadRequestError

from ..recorded import json_bytes
from ..servers import FINE, Serve


@pytest.fixture(params=["requests", "urllib3"])
def spans(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Returns the finished spans, while requests or urllib3 is instrumented."""
    name = f"opentelemetry.instrumentation.{request.param}"
    instrumentation = pytest.importorskip(name)
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    classes = {"requests": "RequestsInstrumentor", "urllib3": "URLLib3Instrumentor"}
    instrumentor = getattr(instrumentation, classes[request.param])()
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield exporter.get_finished_spans
    finally:
        instrumentor.uninstrument()
        provider.shutdown()


def urls(spans: Any) -> List[str]:
    return [span.attributes.get("url.full") or span.attributes.get("http.url") for span in spans()]


def test_a_span_for_each_call(serve: Serve, spans: Any) -> None:
    """create() and a stream each make a span with the URL, and carry its trace to the server."""
    served = serve(FINE)
    assert served.client.completions.create(prompt="x").text == "fine"
    assert served.client.completions.stream(prompt="x").collect().text == "Hello"
    assert urls(spans) == [f"{served.base_url}/completions"] * 2
    for span, request in zip(spans(), served.requests):
        assert f"{span.context.trace_id:032x}" in request.headers["traceparent"]


def test_a_span_of_a_failure(serve: Serve, spans: Any) -> None:
    """A call that fails makes a span with the status, and the error is ours."""
    served = serve(json_bytes({"error": {"message": "no"}}, "400 No"))
    with pytest.raises(BadRequestError, match="no"):
        served.client.completions.create(prompt="x")
    (span,) = spans()
    assert 400 in span.attributes.values()
