"""Many prompts: each row of an input exactly once, from one loop or from a file to a file."""

from __future__ import annotations

from ._progress import BatchProgress
from ._runs import BatchRows
from .mapper import Mapper
from .reading import read_batch
from .resource import Batch
from .rows import BatchReport, BatchRow

__all__ = ["Batch", "BatchProgress", "BatchReport", "BatchRow", "BatchRows", "Mapper", "read_batch"]
