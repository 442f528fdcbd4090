"""The fields of ``/tokenize`` and ``/detokenize``."""

from __future__ import annotations

from typing import Sequence

from ..types.messages import Message, Tool
from ..types.shared import JSONObject
from . import RequestOptions

__all__ = ["DetokenizeParams", "TokenizeParams"]


class DetokenizeParams(RequestOptions, total=False):
    """The keywords of ``client.tokenizer.detokenize``."""

    model: str
    """Name of a served model. Default: the server's first model."""


class TokenizeParams(DetokenizeParams, total=False):
    """The keywords of ``client.tokenizer.tokenize``."""

    messages: Sequence[Message]
    """A conversation, which the chat template turns into the prompt."""
    add_special_tokens: bool
    """Whether the tokenizer adds its special tokens. Default true; with ``messages`` false."""
    return_token_strs: bool
    """Also return the tokenizer's raw pieces. Default false."""
    add_generation_prompt: bool
    """With ``messages``: end the prompt where the model's answer begins. Default true."""
    continue_final_message: bool
    """With ``messages``: leave the last message open. Needs ``add_generation_prompt=False``."""
    tools: Sequence[Tool]
    """With ``messages``: the tools that the template shows."""
    chat_template: str
    """With ``messages``: another template; the server must trust those of requests."""
    chat_template_kwargs: JSONObject
    """With ``messages``: variables of the template, such as ``{"enable_thinking": False}``."""
    mm_processor_kwargs: JSONObject
    """With ``messages``: settings of the processor of images and other media."""
