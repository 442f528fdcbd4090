"""The probability that the model assigned to each token."""

from __future__ import annotations

import math

from _server import connected

with connected() as client:
    completion = client.completions.create(prompt="A client sends", max_tokens=8, logprobs=2)
    for token in completion.choices[0].token_logprobs:
        if token.logprob is not None:
            print(f"{math.exp(token.logprob):7.1%}  {token.token!r}")
