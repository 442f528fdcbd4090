"""The tokens of texts and conversations, asked of the server once."""

from __future__ import annotations

import json
import threading
from array import array
from collections import OrderedDict
from typing import Any, Dict, List, Mapping, Optional

from attrs import field, frozen

from .._http.transport import Transport
from ..exceptions import EvaluationError
from ..params import RequestOptions
from ..resources.tokenizer import Tokenizer

_KEPT_PROMPTS = 512


@frozen
class _Tokenized:
    ids: array[int]
    max_model_len: Optional[int]


@frozen
class _Entry:
    lock: threading.Lock = field(factory=threading.Lock)
    found: List[_Tokenized] = field(factory=list)


class TokenCache:
    """What the server told about tokens, shared by the calls of a client. Threads may share it.

    Attributes:
        facts: What was learned about the server: which ways of scoring it has.
    """

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self.facts: Dict[str, Any] = {}

    def entry(self, key: str) -> _Entry:
        """The place of a prompt; its lock is held while the server is asked."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            if len(self._entries) > _KEPT_PROMPTS:
                self._entries.popitem(last=False)
            return entry


class TokenSource:
    """``POST /tokenize``, with a memory.

    Args:
        transport: The server.
        cache: The memory.
        model: A served model; None for the default one.
        options: Headers and time limits of each call.
    """

    def __init__(
        self,
        transport: Transport,
        cache: TokenCache,
        model: Optional[str],
        options: RequestOptions,
    ) -> None:
        self._tokenizer = Tokenizer(transport)
        self._cache = cache
        self._fields: Dict[str, Any] = {} if model is None else {"model": model}
        self._options = options

    def of_text(self, text: str, *, special: bool) -> List[int]:
        """The tokens of a text; ``special`` adds those that the tokenizer puts around a text.

        Raises:
            VllmError: The server does not tell.
        """
        return self._ask(prompt=text, add_special_tokens=special).ids.tolist()

    def of_messages(self, fields: Mapping[str, Any]) -> List[int]:
        """The tokens of a conversation, with fields of ``/tokenize``.

        Raises:
            VllmError: The server does not tell.
        """
        return self._ask(**fields).ids.tolist()

    def max_model_len(self) -> int:
        """The length of the context, in tokens.

        Raises:
            VllmError: The server does not tell.
        """
        longest = self._ask(prompt="", add_special_tokens=True).max_model_len
        if longest is None:
            raise EvaluationError(
                "the server does not tell the length of its context: pass window=…"
            )
        return longest

    def _ask(self, **fields: Any) -> _Tokenized:
        fields.update(self._fields)
        entry = self._cache.entry(json.dumps(fields, sort_keys=True))
        with entry.lock:
            if not entry.found:
                prompt = fields.pop("prompt", None)
                found = self._tokenizer.tokenize(prompt, **fields, **self._options)
                entry.found.append(_Tokenized(array("q", found.tokens), found.max_model_len))
            return entry.found[0]
