"""The perplexity of a text file, and the words that surprise the model most."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import List, Tuple

from _server import connected

TEXT = "A server waits for requests. It answers each request with the words of a purple model."


def surprise_per_word(tokens: List[str], logprobs: List[float]) -> List[Tuple[str, float]]:
    """Each word with the sum of what its tokens cost, in nats; a token may begin with a space."""
    words: List[Tuple[str, float]] = []
    for token, logprob in zip(tokens, logprobs):
        if words and not re.match(r"\s", token):
            word, cost = words.pop()
            words.append((word + token, cost - logprob))
        else:
            words.append((token, -logprob))
    return words


text = Path(sys.argv[1]).read_text("utf-8") if len(sys.argv) > 1 else TEXT
with connected() as client:
    result = client.evaluate.perplexity(text)
print(f"perplexity {result.perplexity:.1f}, {result.bits_per_byte:.2f} bits per byte")
print(f"{result.tokens} tokens in {result.windows} windows of at most {result.window}")
words = surprise_per_word(result.columns.tokens, list(result.columns.token_logprobs))
for word, cost in sorted(words, key=lambda each: -each[1])[:5]:
    print(f"{cost:6.2f}  {word.strip()}")
