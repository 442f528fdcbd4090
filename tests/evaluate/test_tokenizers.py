"""Real tokenizers, trained here: what is scored is what was asked for and what is reported."""

from __future__ import annotations

import io
from typing import Any, Dict, List, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_client.evaluate._boundary import common_prefix

from .scoring import scoring, total

sentencepiece = pytest.importorskip("sentencepiece")
tokenizers = pytest.importorskip("tokenizers")

TEXT = [
    'def f(a): return {"a": [1, 2], "b": "c"}',
    "Hello world, the cat sat on the mat.  Two  spaces, \ta tab.",
    "Ærøskøbing är vackert, naïve café 你好世界 🙂🙃",
    "the theory of these things is that the other one thinks",
] * 20


class ByteLevel:
    """A byte-level BPE tokenizer, as those of GPT-2, Llama 3 and Qwen."""

    def __init__(self) -> None:
        self._tokenizer = tokenizers.ByteLevelBPETokenizer()
        self._tokenizer.train_from_iterator(TEXT, vocab_size=400, min_frequency=2)
        self.vocabulary = self._tokenizer.get_vocab_size()
        # How the library writes a byte as a character.
        shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
        names = {chr(byte): byte for byte in shown}
        rest = (byte for byte in range(256) if byte not in shown)
        names.update({chr(256 + number): byte for number, byte in enumerate(rest)})
        self._names = names

    def encode(self, text: str, special: bool = True) -> List[int]:
        ids: List[int] = self._tokenizer.encode(text).ids
        return ids

    def raw(self, ids: Sequence[int]) -> bytes:
        pieces = "".join(self._tokenizer.id_to_token(id_) for id_ in ids)
        return bytes(self._names[character] for character in pieces)

    def decode(self, ids: Sequence[int]) -> str:
        return self.raw(ids).decode("utf-8", "replace")

    def written(self, text: str) -> bytes:
        return text.encode()


class SentencePiece:
    """A SentencePiece tokenizer with bytes for what it does not know, as that of Llama 2."""

    def __init__(self, kind: str) -> None:
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT),
            model_writer=model,
            vocab_size=400,
            model_type=kind,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        self._bos = self._processor.bos_id()
        self.vocabulary = self._processor.vocab_size()

    def encode(self, text: str, special: bool = True) -> List[int]:
        return [*([self._bos] if special else []), *self._processor.encode(text)]

    def raw(self, ids: Sequence[int]) -> bytes:
        return b"".join(map(self._piece, ids))

    def _piece(self, id_: int) -> bytes:
        piece = self._processor.id_to_piece(id_)
        if self._processor.is_byte(id_):
            return bytes([int(piece[3:-1], 16)])
        return b"" if id_ == self._bos else piece.replace("\u2581", " ").encode()

    def decode(self, ids: Sequence[int]) -> str:
        return self.raw(ids).decode("utf-8", "replace")

    def written(self, text: str) -> bytes:
        return b" " + text.encode() if text else b""


TOKENIZERS: Dict[str, Any] = {
    "byte-level BPE": ByteLevel(),
    "SentencePiece unigram": SentencePiece("unigram"),
    "SentencePiece BPE": SentencePiece("bpe"),
}
WORDS = st.sampled_from(
    [
        "the",
        " the",
        "o",
        "ry",
        '{"',
        '": ',
        '"}',
        " ",
        "  ",
        "\t",
        "caf",
        "é",
        "你好",
        "🙂",
        "1",
        ".",
    ]
)
TEXTS = st.lists(WORDS, min_size=1, max_size=6).map("".join)
CONTEXTS = TEXTS.map("1.{}".format)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60)
@given(context=CONTEXTS, continuation=TEXTS)
@pytest.mark.filterwarnings("ignore:a context ends with a space")
def test_scored_characters(name: str, context: str, continuation: str) -> None:
    """The scored tokens are the continuation and the tokens of the context that are reported."""
    tokenizer = TOKENIZERS[name]
    with scoring(tokenizer) as (client, _):
        result = client.evaluate.loglikelihood(context, continuation)
    alone, whole = tokenizer.encode(context), tokenizer.encode(context + continuation)
    kept = len(alone) - result.context_tokens_rescored
    assert alone[:kept] == whole[:kept]
    assert kept == len(alone) or alone[kept] != whole[kept]
    assert list(result.token_ids) == whole[kept:]
    assert result.logprob == total(whole, kept)
    # No character is dropped, and none invented.
    before = tokenizer.raw(alone[:kept])
    assert before + tokenizer.raw(result.token_ids) == tokenizer.written(context + continuation)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=40)
@given(context=CONTEXTS, options=st.lists(TEXTS, min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore:a context ends with a space")
def test_options_are_charged_alike(name: str, context: str, options: List[str]) -> None:
    """Each option is charged for itself and for the same characters of the context."""
    tokenizer = TOKENIZERS[name]
    with scoring(tokenizer) as (client, _):
        choice = client.evaluate.choose(context, options)
    alone = tokenizer.encode(context)
    wholes = [tokenizer.encode(context + option) for option in options]
    kept = len(alone) - choice.context_tokens_rescored
    assert kept == min(common_prefix(alone, whole) for whole in wholes)
    assert choice.logprobs == pytest.approx([total(whole, kept) for whole in wholes], abs=1e-9)


HARD = [
    ("(", "A)"),
    ('{"a":', '"b"}'),
    ("the", "ory"),
    ("the ", "theory"),
    ("naïve caf", "é"),
    ("tab\t", "\ta"),
    ("🙂", "🙃"),
]


@pytest.mark.parametrize("pair", HARD)
@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.filterwarnings("ignore:a context ends with a space")
def test_boundary_between_tokens(name: str, pair: Any) -> None:
    """With boundary="tokens" the context stays as it is, and nothing of it is scored."""
    tokenizer = TOKENIZERS[name]
    with scoring(tokenizer) as (client, _):
        result = client.evaluate.loglikelihood(*pair, boundary="tokens")
    alone = tokenizer.encode(pair[0])
    after = tokenizer.encode(pair[1], False)
    assert list(result.token_ids) == after
    assert result.logprob == total([*alone, *after], len(alone))
    assert result.context_tokens_rescored == 0
