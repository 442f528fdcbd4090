"""A picture in a message, from bytes; a path works as well."""

from __future__ import annotations

import base64

from _server import connected

from vllm_client import image_part

# One red pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)

with connected() as client:
    answer = client.chat.completions.create(
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": "What is on it?"}, image_part(PIXEL)],
            }
        ],
        max_tokens=30,
    )
    print(answer.content)
