"""A tokenizer that maps any text to token ids and back without loss.

Each word of the text in ``text.py`` is one token, with and without a space before it. Other words
are cut into fragments of known words, and everything else into bytes. One character may therefore
be several tokens, as with vLLM's byte-level tokenizers; a stream must wait for the last of them.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

__all__ = ["EOS", "SPECIAL_TOKENS", "THINK_END", "Tokenizer"]

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
)
EOS = SPECIAL_TOKENS.index("<|im_end|>")
THINK_END = SPECIAL_TOKENS.index("</think>")

_WORDS = re.compile(r" ?[^\W_]+| ?[^\w\s]|\s|_")
_LONGEST_FRAGMENT = 4


class Tokenizer:
    """A fixed vocabulary: special tokens, all 256 bytes, and the words and fragments of a text."""

    def __init__(self, text: str) -> None:
        self._bytes: list[bytes] = [token.encode() for token in SPECIAL_TOKENS]
        self._bytes += [bytes([value]) for value in range(256)]
        self._ids = {piece: id_ for id_, piece in enumerate(self._bytes)}
        # Only the chat template writes special tokens: a text that spells one must not become one.
        for special in self._bytes[: len(SPECIAL_TOKENS)]:
            del self._ids[special]
        for piece in _vocabulary(text):
            self._add(piece.encode())

    @property
    def vocab_size(self) -> int:
        """The number of tokens. Every token id is smaller."""
        return len(self._bytes)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``."""
        ids: list[int] = []
        for word in _WORDS.findall(text):
            ids += self._encode_word(word.encode("utf-8", "replace"))
        return ids

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of ``ids``. Bytes that are not a complete character become U+FFFD."""
        kept = (id_ for id_ in ids if id_ >= len(SPECIAL_TOKENS) or not skip_special_tokens)
        return b"".join(self._bytes[id_] for id_ in kept).decode("utf-8", "replace")

    def token_bytes(self, id_: int) -> bytes:
        """Return the bytes of one token, which may be a special token."""
        return self._bytes[id_]

    def find(self, piece: bytes, default: int) -> int:
        """Return the id of the token with these bytes, or ``default`` if there is none."""
        return self._ids.get(piece, default)

    def _add(self, piece: bytes) -> None:
        if piece not in self._ids:
            self._ids[piece] = len(self._bytes)
            self._bytes.append(piece)

    def _encode_word(self, word: bytes) -> list[int]:
        if word in self._ids:
            return [self._ids[word]]
        ids = []
        start = 0
        while start < len(word):
            end = start + _LONGEST_FRAGMENT
            while word[start:end] not in self._ids:
                end -= 1
            ids.append(self._ids[word[start:end]])
            start += len(word[start:end])
        return ids


def _vocabulary(text: str) -> Iterable[str]:
    for character in string.ascii_letters + string.digits + string.punctuation:
        yield " " + character
    words = dict.fromkeys(word.strip() for word in _WORDS.findall(text))
    for word in words:
        for form in (word, word.capitalize()):
            yield form
            yield " " + form
    for word in words:
        for length in range(2, _LONGEST_FRAGMENT + 1):
            for start in range(len(word) - length + 1):
                yield word[start : start + length]
