"""Frames of pandas, which only those need who ask for one."""

from __future__ import annotations

from typing import Any, Iterable, Optional

__all__ = ["data_frame"]


def data_frame(data: Any, columns: Optional[Iterable[str]] = None) -> Any:
    """A ``pandas.DataFrame`` of columns by name, or of rows.

    Args:
        data: As ``pandas.DataFrame`` takes it.
        columns: The names of the columns.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 — an extra
    except ImportError:
        raise ImportError("frames need pandas: pip install 'vllm-sync-client[pandas]'") from None
    return pd.DataFrame(data, columns=None if columns is None else list(columns))
