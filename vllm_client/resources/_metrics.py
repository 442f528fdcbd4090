"""Metrics in Prometheus' text format → families by name."""

from __future__ import annotations

from typing import Any, Dict

from ..exceptions import InvalidResponseError


def families(text: str) -> Dict[str, Any]:
    """The families of a text, as prometheus_client parses them.

    Raises:
        ImportError: prometheus_client is missing.
        InvalidResponseError: The text is in another format.
    """
    try:
        from prometheus_client.parser import (  # noqa: PLC0415 — the extra `metrics`
            text_string_to_metric_families,
        )
    except ImportError as error:
        raise ImportError(
            "metrics() needs prometheus_client: pip install 'vllm-sync-client[metrics]'; or "
            "metrics(raw=True) returns the text"
        ) from error
    try:
        return {family.name: family for family in text_string_to_metric_families(text)}
    except (ValueError, KeyError, IndexError) as error:
        raise InvalidResponseError(
            f"the response is not in Prometheus' text format ({error!r}): {text[:300]!r}", body=text
        ) from error
