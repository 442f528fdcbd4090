"""``json.loads``, by orjson where that is installed (the extra ``fast``).

The result is that of the standard library in every case: what orjson refuses (``NaN``, half a
surrogate pair, deep nesting) or reads otherwise (integers of more than 64 bits) goes there.

``ENABLED = False`` leaves orjson alone; tests hold it against the plain way.
"""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Optional, Union

_orjson_loads: Optional[Callable[[Union[str, bytes]], Any]]
try:
    from orjson import loads as _orjson_loads
except ImportError:
    _orjson_loads = None

ENABLED = True

# A 64-bit integer may have 19 digits; "-0" is an integer in Python and a float in JavaScript.
_ODD_TEXT = re.compile(r"[0-9]{19}|-0(?![.0-9eE])")
_ODD_BYTES = re.compile(_ODD_TEXT.pattern.encode())


def loads(text: Union[str, bytes]) -> Any:
    """The value of a JSON text, of bytes in UTF-8.

    Raises:
        ValueError, RecursionError: As ``json.loads`` does.
    """
    if _orjson_loads is not None and ENABLED and not _is_odd(text):
        try:
            return _orjson_loads(text)
        except ValueError:
            pass  # It may be valid for json, and json has the better words if it is not.
    return json.loads(text)


def _is_odd(text: Union[str, bytes]) -> bool:
    found = _ODD_TEXT.search(text) if isinstance(text, str) else _ODD_BYTES.search(text)
    return found is not None
