"""The response of ``GET /v1/models``."""

from __future__ import annotations

from typing import Dict, Mapping, Optional

from attrs import define, field

from .._shown import shown
from ._answer import Answer
from .shared import JSONValue

__all__ = ["Model"]


@shown
@define
class Model(Answer):
    """A served model or a loaded LoRA adapter.

    Attributes:
        id: Its name, as ``model=…`` takes it.
        root: The path or hub name it was loaded from.
        parent: The base model of an adapter; None for a model.
        max_model_len: The length of the context, in tokens; None for an adapter.
        created: When the server answered, in seconds since 1970.
        raw: The decoded JSON as the server sent it.
    """

    id: str
    root: Optional[str] = None
    parent: Optional[str] = None
    max_model_len: Optional[int] = None
    created: int = 0
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue]) -> Model:
        """Read one object of ``data``.

        Raises:
            KeyError, TypeError, AttributeError: It is not a model.
        """
        return cls(
            raw["id"],
            raw.get("root"),
            raw.get("parent"),
            raw.get("max_model_len"),
            raw.get("created") or 0,
            dict(raw),
        )
