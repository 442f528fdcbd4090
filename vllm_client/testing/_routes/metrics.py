"""`GET /metrics`: some of vLLM's counters, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..recorded import Recorder

__all__ = ["METRICS_TYPE", "render_metrics"]

METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"

_FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")


def render_metrics(recorder: Recorder, model: str) -> str:
    """Return the page of metrics of a server for `model`."""
    labels = f'engine="0",model_name="{model}"'
    plain = {labels: 0.0}
    lines = [
        *_metric("num_requests_running", "gauge", {labels: recorder.running}),
        *_metric("num_requests_waiting", "gauge", plain),
        *_metric("prompt_tokens_total", "counter", {labels: recorder.prompt_tokens}),
        *_metric("generation_tokens_total", "counter", {labels: recorder.generation_tokens}),
        *_metric(
            "request_success_total",
            "counter",
            {
                f'engine="0",finished_reason="{reason}",model_name="{model}"': count
                for reason, count in _counts(recorder).items()
            },
        ),
    ]
    return "".join(f"{line}\n" for line in lines)


def _counts(recorder: Recorder) -> dict[str, int]:
    # To the engine a tool call is a text that stopped.
    counts = {reason: recorder.finish_reasons[reason] for reason in _FINISH_REASONS}
    counts["stop"] += recorder.finish_reasons["tool_calls"]
    return counts


def _metric(name: str, kind: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP vllm:{name} As in vLLM, counted by a stand-in."
    yield f"# TYPE vllm:{name} {kind}"
    for labels, value in values.items():
        yield f"vllm:{name}{{{labels}}} {float(value)}"
