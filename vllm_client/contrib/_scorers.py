"""Which special tokens stand in front of a text of an evaluation, and conversations as texts."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..client import VllmClient
from ..evaluate._scorer import Scorer, ScoringOptions
from ..evaluate._tokens import TokenCache
from ..exceptions import EvaluationError, NotFoundError


class RenderedPrompt(str):
    """A conversation as the chat template writes it; its special tokens are in the text."""

    __slots__ = ()


class Scorers:
    """Scores texts, with special tokens in front of those that have none.

    Args:
        client: The server.
        model: The served model.
        add_bos_token: Whether the tokenizer puts its special tokens in front of a text.
        bos_token_id: What precedes a text whose tokenizer adds nothing.
        max_length: The length of the context; None for that of the server.

    Attributes:
        plain: Adds no special tokens, save in front of a text that is scored from its beginning.
    """

    def __init__(
        self,
        client: VllmClient,
        model: str,
        *,
        add_bos_token: bool = True,
        bos_token_id: Optional[int] = None,
        max_length: Optional[int] = None,
    ) -> None:
        self._tokenizer = client.tokenizer
        self._model = model
        self._transport = client._transport
        self._cache = TokenCache()
        self._max_length = max_length
        added = self._scorer(special=True, bos_token_id=None).lead()
        if bos_token_id is None or (added and add_bos_token):
            self._lead = added or self._known_token()
        else:
            self._lead = [bos_token_id]
        first = self._lead[0] if self._lead else None
        self.plain = self._scorer(special=False, bos_token_id=first)
        self._special = (
            self._scorer(special=True, bos_token_id=first)
            if added and add_bos_token
            else self.plain
        )
        self._lead_text = self._text(self._lead) if self._lead else ""

    def _scorer(self, *, special: bool, bos_token_id: Optional[int]) -> Scorer:
        options = ScoringOptions(
            self._model, special, bos_token_id, {}, {}, {}, max_length=self._max_length
        )
        return Scorer(self._transport, self._cache, options)

    def _known_token(self) -> List[int]:
        """The token that begins a text, or else ends it, from a server that tells."""
        try:
            info = self._tokenizer.info()
        except NotFoundError:
            return []
        token = info.get("bos_token") or info.get("eos_token")
        if not isinstance(token, str):
            return []
        ids = self._tokenizer.tokenize(token, model=self._model, add_special_tokens=False).tokens
        return ids if len(ids) == 1 else []

    def facts(self) -> Dict[str, Any]:
        """What must be the same in every run of a file."""
        return {"lead": self._lead, "add_bos_token": self._special is not self.plain}

    def prefix(self) -> List[int]:
        """The special token in front of a text that is scored from its beginning."""
        return self._lead

    def max_length(self) -> int:
        """The length of the context, in tokens."""
        return self.plain.longest_prompt() + 1

    def of_text(self, text: str) -> Scorer:
        """The scorer of a text, which may have its special tokens already."""
        if isinstance(text, RenderedPrompt) or self._begins_with_lead(text):
            return self.plain
        return self._special

    def of_pair(self, context: str, continuation: str) -> Tuple[Scorer, str, str]:
        """The scorer of a pair, and its parts."""
        if context:
            return self.of_text(context), context, continuation
        if self._begins_with_lead(continuation):  # As the harness does: it is not put there twice.
            size = len(self._lead_text)
            return self.plain, continuation[:size], continuation[size:]
        return self._special, context, continuation

    def _begins_with_lead(self, text: str) -> bool:
        return bool(self._lead_text) and text.startswith(self._lead_text)

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True
    ) -> RenderedPrompt:
        """A conversation as the server's chat template writes it.

        Args:
            messages: The conversation.
            add_generation_prompt: Whether the model's answer comes next; else the last message is
                continued.

        Raises:
            EvaluationError: The tokens of the conversation have no text that is tokenized as they
                are.
            VllmError: The server refused a request.
        """
        fields: Dict[str, Any] = {
            "messages": list(messages),
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        ids = self._tokenizer.tokenize(model=self._model, **fields).tokens
        text = self._text(ids)
        again = self._tokenizer.tokenize(text, model=self._model, add_special_tokens=False).tokens
        if again != ids:
            raise EvaluationError(
                f"the tokens that the chat template makes of a conversation cannot be written as "
                f"text: the text {text[:200]!r} has other tokens"
            )
        return RenderedPrompt(text)

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.detokenize(ids, model=self._model)
