"""JSON values that some servers send in another shape than vLLM, brought into the shape of vLLM."""

from __future__ import annotations

import json
from typing import Optional

from ..exceptions import InvalidResponseError
from .shared import JSONValue


def text_of_content(content: JSONValue) -> Optional[str]:
    """The text of a message's content; some servers send a part or a list of parts.

    Raises:
        TypeError: It is neither text nor a list of parts with text.
    """
    if content is None or isinstance(content, str):
        return content
    parts = [content] if isinstance(content, dict) else content
    if not isinstance(parts, list):
        raise TypeError(f"expected text, not {content!r}")
    return "".join(_text_of_part(part or "") for part in parts)


def _text_of_part(part: JSONValue) -> str:
    if isinstance(part, str):
        return part
    return (part.get("text") or "") if part.get("type", "text") == "text" else ""


def text_of_arguments(arguments: JSONValue) -> str:
    """The arguments of a tool call as JSON text; some servers send the value itself.

    Raises:
        TypeError: They are neither text nor an object or an array.
    """
    if arguments is None:
        return ""
    if isinstance(arguments, (dict, list)):
        return json.dumps(arguments, ensure_ascii=False)
    if not isinstance(arguments, str):
        raise TypeError(f"expected the arguments of a tool call, not {arguments!r}")
    return arguments


def decoded_arguments(name: str, arguments: str) -> JSONValue:
    """The arguments of a call of the function ``name``, decoded. An empty text is ``{}``.

    Raises:
        InvalidResponseError: They are not JSON. The message and ``body`` show them.
    """
    try:
        return json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidResponseError(
            f"the arguments of {name} are not JSON ({error}): {arguments!r}", body=arguments
        ) from None
