"""``json.loads`` by shorter ways, with the result of the standard library in every case.

Hot path, measured, see docs/performance.md. With orjson (the extra ``fast``), which refuses some
texts (``NaN``, half a surrogate pair, deep nesting) and reads others differently (integers of more
than 64 bits): those go to json. Without orjson, json's own scanner, called directly.

``ENABLED = False`` uses ``json.loads`` alone; tests compare the two.
"""

from __future__ import annotations

import json
import re
from typing import Callable, Optional, Tuple, Union

from ..types.shared import JSONValue

# Earlier versions crash the interpreter on deeply nested JSON (CVE-2024-27454).
_FIRST_SAFE_ORJSON = (3, 9, 15)


def _safe_orjson() -> Optional[Callable[[bytes], JSONValue]]:
    try:
        import orjson  # noqa: PLC0415
    except ImportError:
        return None
    version = tuple(int(part) for part in orjson.__version__.split(".") if part.isdigit())
    return orjson.loads if version >= _FIRST_SAFE_ORJSON else None


_orjson_loads = _safe_orjson()

ENABLED = True
scan: Callable[[str, int], Tuple[JSONValue, int]] = getattr(json.JSONDecoder(), "scan_once")  # noqa: B009
"""The JSON value at a place in a text, and where it ends. Raises StopIteration if there is none."""

# Maps digits to "0", keeps "-" and ".", blanks the rest. An integer that may exceed 64 bits then
# shows as 19 zeros after a blank or a sign. "-0" is an integer for json and a float for orjson; it
# shows as a single zero after a sign.
_OUTLINE = bytes(
    ord("0") if chr(byte).isdigit() and byte < 128 else byte if chr(byte) in "-." else ord(" ")
    for byte in range(256)
)
_LONG, _LONG_NEGATIVE = b" " + b"0" * 19, b"-" + b"0" * 19
_MINUS_0 = re.compile(rb"-0(?![.0-9eE])")


def loads(text: Union[str, bytes]) -> JSONValue:
    """The value of a JSON text, of bytes in UTF-8.

    Raises:
        ValueError, RecursionError: As ``json.loads`` does.
    """
    if ENABLED:
        try:
            if _orjson_loads is not None:
                data = text.encode() if isinstance(text, str) else text
                if not _needs_json(data):
                    return _orjson_loads(data)
            elif isinstance(text, str):
                value, end = scan(text, 0)
                if end == len(text):
                    return value
        except (ValueError, StopIteration):
            pass  # It may be valid JSON; if not, json has the better error message.
    return json.loads(text)


def _needs_json(data: bytes) -> bool:
    # Translate first: bytes.find for one text is much faster than a regex for any 19 digits.
    outline = b" %b " % data.translate(_OUTLINE)
    return (
        outline.find(_LONG) >= 0
        or outline.find(_LONG_NEGATIVE) >= 0
        or (outline.find(b"-0 ") >= 0 and _MINUS_0.search(data) is not None)
    )


def is_json(text: str) -> bool:
    """Whether a text is one whole JSON value."""
    try:
        loads(text)
    except (ValueError, RecursionError):
        return False
    return True
