"""The commands that score texts: what they print, and as JSON."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from vllm_client import VllmClient
from vllm_client.cli import main
from vllm_client.testing import FakeServer

CONTEXT = "Machine learning is"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """An embedded server whose address is in VLLM_BASE_URL."""
    with FakeServer("tiny") as fake:
        monkeypatch.setenv("VLLM_BASE_URL", fake.base_url)
        yield fake


@pytest.fixture
def client(server: FakeServer) -> Iterator[VllmClient]:
    with VllmClient(server.base_url) as made:
        yield made


def lines(capsys: pytest.CaptureFixture[str]) -> List[str]:
    return capsys.readouterr().out.splitlines()


def objects(capsys: pytest.CaptureFixture[str]) -> List[Any]:
    return [json.loads(line) for line in lines(capsys)]


def test_score_text(client: VllmClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Each continuation has a line: its score, its tokens, whether it is greedy, its text."""
    assert main(["score-text", CONTEXT, " a field", " the"]) == 0
    scores = [client.evaluate.loglikelihood(CONTEXT, text) for text in (" a field", " the")]
    assert lines(capsys) == [
        f"{scores[0].logprob:.4f}\t4 tokens\t\t a field",
        f"{scores[1].logprob:.4f}\t1 token\tgreedy\t the",
    ]


def test_score_text_json(
    client: VllmClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--json prints the columns; the continuations are the lines of the standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(" a field\n the\n"))
    assert main(["score-text", CONTEXT, "--boundary", "tokens", "--json"]) == 0
    first, _ = objects(capsys)
    score = client.evaluate.loglikelihood(CONTEXT, " a field", boundary="tokens")
    assert first["continuation"] == " a field"
    assert first["logprob"] == score.logprob
    assert first["token_ids"] == list(score.token_ids)
    assert first["boundary"] == "tokens"


def test_no_continuation(client: VllmClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a continuation there is an error, and no silent success."""
    assert main(["score-text", CONTEXT]) == 1
    assert "there is no continuation" in capsys.readouterr().err


def test_special_token(client: VllmClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a context, --bos-token-id is put in front; without it, the message names it."""
    assert main(["score-text", "", "The"]) == 1
    assert "or --bos-token-id ID" in capsys.readouterr().err
    assert main(["score-text", "", "The", "--bos-token-id", "2", "--json"]) == 0
    assert objects(capsys)[0]["bos_token_id"] == 2


def test_choose(client: VllmClient, capsys: pytest.CaptureFixture[str]) -> None:
    """The options are printed with their shares, the best first."""
    assert main(["choose", CONTEXT, " a", " the", " cheese"]) == 0
    choice = client.evaluate.choose(CONTEXT, [" a", " the", " cheese"])
    shown = lines(capsys)
    assert [line.rpartition("\t")[2] for line in shown] == [" the", " a", " cheese"]
    assert shown[0].startswith(f"{choice.probabilities[1]:.1%}\t{choice.scores[1]:.4f}\t")


def test_choose_json(client: VllmClient, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints the choice as one object."""
    assert main(["choose", CONTEXT, " a", " the", "--normalize", "byte", "--json"]) == 0
    (found,) = objects(capsys)
    choice = client.evaluate.choose(CONTEXT, [" a", " the"], normalize="byte")
    assert (found["best"], found["index"]) == (choice.best, choice.index)
    assert found["scores"] == choice.scores
    assert found["options"] == [" a", " the"]


def test_perplexity(client: VllmClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each file has a line; windows are told where there are several."""
    text = "A model is a program.\r\nIt learns from data."
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    assert main(["perplexity", str(path), str(path), "--window", "8", "--stride", "4"]) == 0
    result = client.evaluate.perplexity(text, window=8, stride=4)
    first, second = lines(capsys)
    assert first == second
    assert first.split("\t") == [
        f"perplexity {result.perplexity:.4f}",
        f"{result.bits_per_byte:.4f} bits/byte",
        f"{result.tokens} tokens",
        "window 8, stride 4",
        str(path),
    ]


def test_perplexity_json(
    client: VllmClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--json prints all figures, here of the standard input."""
    text = "A model is\r\na program."
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(["perplexity", "--json"]) == 0
    (found,) = objects(capsys)
    result = client.evaluate.perplexity(text)
    assert found["file"] == "-"
    assert (found["nll"], found["bytes"]) == (result.nll, len(text))
    assert found["perplexity"] == result.perplexity


def test_unreadable_files(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is missing, or is no text, is an error that names it."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path, problem in ((tmp_path / "missing", "No such file"), (binary, "not UTF-8")):
        assert main(["perplexity", str(path)]) == 1
        error = capsys.readouterr().err
        assert str(path) in error
        assert problem in error


def test_a_file_that_cannot_be_scored(
    client: VllmClient, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Of several files, the error names the one that cannot be scored."""
    for name, text in (("full", "a text of some words"), ("empty", "")):
        (tmp_path / name).write_text(text)
    assert main(["perplexity", str(tmp_path / "full"), str(tmp_path / "empty")]) == 1
    out, err = capsys.readouterr()
    assert f"{tmp_path / 'empty'}: the text is empty" in err
    assert str(tmp_path / "full") in out
