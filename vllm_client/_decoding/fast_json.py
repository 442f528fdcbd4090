"""``json.loads`` by shorter ways, with the result of the standard library in every case.

By orjson where that is installed (the extra ``fast``); what it refuses (``NaN``, half a surrogate
pair, deep nesting) or reads otherwise (integers of more than 64 bits) goes to json. Without it by
json's own scanner, past what ``json.loads`` does before and after.

``ENABLED = False`` leaves ``json.loads`` alone; tests hold it against the plain way.
"""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Optional, Union

_orjson_loads: Optional[Callable[[bytes], Any]]
try:
    from orjson import loads as _orjson_loads
except ImportError:
    _orjson_loads = None

ENABLED = True
_scan_once: Callable[[str, int], Any] = getattr(json.JSONDecoder(), "scan_once")  # noqa: B009

# Every digit a 0, the characters of numbers as they are, all others a space: in that an integer
# that may not fit into 64 bits is 19 zeros behind a space or a sign. "-0", an integer in Python and
# a float in JavaScript, is a single one.
_OUTLINE = bytes(
    ord("0") if chr(byte).isdigit() and byte < 128 else byte if chr(byte) in "-." else ord(" ")
    for byte in range(256)
)
_LONG, _LONG_NEGATIVE = b" " + b"0" * 19, b"-" + b"0" * 19
_MINUS_0 = re.compile(rb"-0(?![.0-9eE])")


def loads(text: Union[str, bytes]) -> Any:
    """The value of a JSON text, of bytes in UTF-8.

    Raises:
        ValueError, RecursionError: As ``json.loads`` does.
    """
    if ENABLED:
        try:
            if _orjson_loads is not None:
                data = text.encode() if isinstance(text, str) else text
                if not _is_odd(data):
                    return _orjson_loads(data)
            elif isinstance(text, str):
                value, end = _scan_once(text, 0)
                if end == len(text):
                    return value
        except (ValueError, StopIteration):
            pass  # It may be valid all the same, and json has the better words if it is not.
    return json.loads(text)


def _is_odd(data: bytes) -> bool:
    # A search for a text that repeats skips ahead, where one for any of ten digits cannot.
    outline = b" %b " % data.translate(_OUTLINE)
    return (
        outline.find(_LONG) >= 0
        or outline.find(_LONG_NEGATIVE) >= 0
        or (outline.find(b"-0 ") >= 0 and _MINUS_0.search(data) is not None)
    )
