"""Advice of the library, in the words of the command line."""

from __future__ import annotations

import re

__all__ = ["in_options"]

_ADVICE = {
    r"pass api_key=… or": "pass --api-key KEY or",
    r"use it as base_url": "use it as --base-url",
    r"pass credentials as api_key=… or headers=…": "pass the key with --api-key",
    r"Timeout\(read=…\) allows": "--timeout SECONDS allows",
    r"check base_url and the path": "check --base-url",
    r"REQUESTS_CA_BUNDLE or session\.verify": "REQUESTS_CA_BUNDLE",
    r"(?<!-)bos_token_id=…": "--bos-token-id ID",
    r"call create\(\) without stream": "--json waits for the whole response",
    # The program prints what arrived.
    r"[:;] error\.partial holds (?:what arrived|the text so far)": "",
    # A field that the library does not take, and one that vLLM no longer reads.
    r"\w+\(\) got an unexpected keyword argument ('(\w*)'.*?)"
    r"\(vLLM would ignore it silently; .*\)": r"vLLM has no request field \1"
    r"""(for one that this version does not know: --set 'extra_body={"\2": ...}')""",
    r"\w+\(\) got an unexpected keyword argument ('\w*': .*?use )": r"vLLM has no request field "
    r"\1--set ",
}
"""Patterns of the library's messages, and what replaces them."""


def in_options(message: str) -> str:
    """The message of an error with options in the place of arguments."""
    for advice, words in _ADVICE.items():
        message = re.sub(advice, words, message)
    return message
