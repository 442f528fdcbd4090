"""The keywords of ``client.evaluate``."""

from __future__ import annotations

from typing import Literal, Optional, Sequence

from ..types.messages import Tool
from ..types.shared import JSONObject
from . import RequestOptions

__all__ = ["EvaluateManyParams", "EvaluateParams"]


class EvaluateParams(RequestOptions, total=False):
    """What all methods of ``client.evaluate`` take."""

    model: str
    """Name of a served model or adapter. Default: the server's first model."""
    add_special_tokens: bool
    """Whether the tokenizer puts its special tokens around a text. Default true."""
    bos_token_id: int
    """The token in front of the first one, for a tokenizer that adds none. Without it, a first
    token has no probability."""
    truncate: Optional[Literal["left"]]
    """``"left"`` cuts a context that is too long and tells by how much. Default: it is an error."""
    chat_template: str
    """With ``messages``: another template; the server must trust those of requests."""
    chat_template_kwargs: JSONObject
    """With ``messages``: variables of the template, such as ``{"enable_thinking": False}``."""
    tools: Sequence[Tool]
    """With ``messages``: the tools that the template shows."""
    priority: int
    """Lower runs earlier, on a server with ``--scheduling-policy priority``. Default 0."""


class EvaluateManyParams(EvaluateParams, total=False):
    """What the methods take that send several requests at once."""

    max_concurrency: int
    """Requests in flight at once, at most; 1 or more. Below it the limit adapts. Default 64."""
    patience: float
    """Seconds to wait for a server that is away, or too busy, before the run ends. Default 600."""
