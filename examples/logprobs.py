"""How sure the model was of each token."""

from __future__ import annotations

import math

from _server import connected

with connected() as client:
    completion = client.completions.create(prompt="A client sends", max_tokens=8, logprobs=2)
    logprobs = completion.choices[0].logprobs or {}
    for token, logprob in zip(logprobs["tokens"], logprobs["token_logprobs"]):
        print(f"{math.exp(logprob):7.1%}  {token!r}")
