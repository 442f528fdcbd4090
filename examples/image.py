"""An image in a message. ``image_part`` accepts bytes, as here, or a path."""

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
                "content": [
                    {"type": "text", "text": "What does the image show?"},
                    image_part(PIXEL),
                ],
            }
        ],
        max_tokens=30,
    )
    print(answer.content)
