"""``GET /metrics``: some of vLLM's counters, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..recorded import Recorder

__all__ = ["METRICS_TYPE", "render_metrics"]

METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"

_FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")


def render_metrics(recorder: Recorder, model: str) -> str:
    """Return the body of ``GET /metrics``, with ``model`` as the label ``model_name``."""
    labels = f'engine="0",model_name="{model}"'
    zero = {labels: 0.0}
    lines = [
        *_metric("num_requests_running", "gauge", {labels: recorder.running}),
        *_metric("num_requests_waiting", "gauge", zero),
        *_metric("prompt_tokens_total", "counter", {labels: recorder.prompt_tokens}),
        *_metric("generation_tokens_total", "counter", {labels: recorder.generation_tokens}),
        *_metric(
            "request_success_total",
            "counter",
            {
                f'engine="0",finished_reason="{reason}",model_name="{model}"': count
                for reason, count in _finished_requests(recorder).items()
            },
        ),
    ]
    return "".join(f"{line}\n" for line in lines)


def _finished_requests(recorder: Recorder) -> dict[str, int]:
    # vLLM's engine does not see tool calls: for it, such a text has finished with "stop".
    counts = {reason: recorder.finish_reasons[reason] for reason in _FINISH_REASONS}
    counts["stop"] += recorder.finish_reasons["tool_calls"]
    return counts


def _metric(name: str, metric_type: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP vllm:{name} As in vLLM, counted by a stand-in."
    yield f"# TYPE vllm:{name} {metric_type}"
    for labels, value in values.items():
        yield f"vllm:{name}{{{labels}}} {float(value)}"
