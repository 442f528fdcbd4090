"""Request headers: checks, merging, and the one header that authorizes."""

from __future__ import annotations

import re
from typing import Dict, Mapping, Optional, TypeVar

import requests
import requests.auth

Headers = Mapping[str, Optional[str]]
"""Header names and values. The value None removes a header of the same name."""

V = TypeVar("V")

# Strings, because re compiles them on their first use and not at import. RFC 9110, section 5.
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEADER_VALUE = r"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"


def checked_headers(headers: Optional[Headers]) -> Headers:
    """The headers themselves, or none.

    Raises:
        ValueError, TypeError: A header cannot be sent.
    """
    if not isinstance(headers or {}, Mapping):
        raise TypeError(f"headers must be a dict, not {type(headers).__name__}")
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not (value is None or isinstance(value, str)):
            raise TypeError(f"header {name!r} must be text, or None to leave the header out")
        if not re.fullmatch(_HEADER_NAME, name):
            raise ValueError(f"{name!r} is not a valid name of a header")
        if value is not None and not re.fullmatch(_HEADER_VALUE, value):
            raise ValueError(f"the value of header {name!r} has characters no header can carry")
    return headers or {}


def merged_headers(*mappings: Mapping[str, V]) -> Dict[str, V]:
    """All headers of these mappings; a later one replaces an earlier one, whatever its case."""
    by_name = {name.lower(): (name, each[name]) for each in mappings for name in each}
    return dict(by_name.values())


class Authorization(requests.auth.AuthBase):
    """Sets the header ``Authorization``; with None it leaves the request unchanged.

    It is an auth object, because requests replaces a plain header by the one of ``.netrc``.

    Attributes:
        value: The header.
    """

    def __init__(self, value: Optional[str]) -> None:
        self.value = value

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.value is not None:
            r.headers["Authorization"] = self.value
        return r
