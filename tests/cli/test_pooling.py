"""The commands of pooling models: what they print, and as JSON."""

from __future__ import annotations

import io
import json
import sys
from typing import Any, Iterator, List

import pytest

from vllm_client import VllmClient
from vllm_client.cli import main
from vllm_client.testing import FakeServer

DOCUMENTS = ["soup", "a network of nodes", "the network"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """An embedded server whose address is in VLLM_BASE_URL."""
    with FakeServer("tiny") as fake:
        monkeypatch.setenv("VLLM_BASE_URL", fake.base_url)
        yield fake


def lines(capsys: pytest.CaptureFixture[str]) -> List[str]:
    return capsys.readouterr().out.splitlines()


def objects(capsys: pytest.CaptureFixture[str]) -> List[Any]:
    return [json.loads(line) for line in lines(capsys)]


def test_embed(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Each text has a line with the beginning of its embedding."""
    assert main(["embed", "A model", "two\nlines", "--model", "tiny", "--timeout", "9"]) == 0
    first, second = lines(capsys)
    assert first.startswith("128 dimensions\t")
    assert first.endswith(" ...\tA model")
    assert second.endswith("\ttwo lines")
    sent = server.requests[0].json
    assert (sent["model"], sent["input"]) == ("tiny", ["A model", "two\nlines"])


def test_embed_json(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints all numbers, one object for each text."""
    assert main(["embed", "A model", "x", "--json"]) == 0
    found = objects(capsys)
    with VllmClient(server.base_url) as client:
        wanted = client.embeddings.create(input=["A model", "x"]).data
    assert found == [{"index": each.index, "embedding": each.embedding} for each in wanted]


def test_embed_reads_standard_input(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without texts, each line of the standard input is one."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\ntwo"))
    assert main(["embed", "--json"]) == 0
    assert [each["index"] for each in objects(capsys)] == [0, 1]
    assert server.requests[0].json["input"] == ["one", "two"]


def test_no_input(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without any text nothing is sent, and the message tells why."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["embed"]) == 1
    assert "at least one input" in capsys.readouterr().err
    assert len(server.requests) == 0


def test_score(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Each document has a line with its score, in the given order."""
    assert main(["score", "the network", *DOCUMENTS]) == 0
    rows = [line.split("\t") for line in lines(capsys)]
    assert [text for _, text in rows] == DOCUMENTS
    assert rows[2][0] == "1.0000"
    assert main(["score", "the network", *DOCUMENTS, "--json"]) == 0
    found = objects(capsys)
    assert [each["index"] for each in found] == [0, 1, 2]
    assert found[2]["score"] == pytest.approx(1)
    sent = server.requests[0].json
    assert (sent["text_1"], sent["text_2"]) == ("the network", DOCUMENTS)


def test_rerank(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The documents come best first; --top-n limits them."""
    assert main(["rerank", "the network", *DOCUMENTS]) == 0
    assert [line.split("\t")[1] for line in lines(capsys)] == [DOCUMENTS[i] for i in (2, 1, 0)]
    assert main(["rerank", "the network", *DOCUMENTS, "--top-n", "1", "--json"]) == 0
    (best,) = objects(capsys)
    assert best == {"index": 2, "relevance_score": pytest.approx(1)}
    assert server.requests[1].json["top_n"] == 1


def test_a_terminal_sees_no_control_characters(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control characters of a document are visible on a terminal."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    assert main(["score", "q", "a\x1b[31mb"]) == 0
    assert sys.stdout.getvalue().endswith("\ta\\x1b[31mb\n")  # type: ignore[attr-defined]


def test_top_n_out_of_range(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A negative --top-n is refused before anything is sent."""
    assert main(["rerank", "q", "a", "--top-n", "-1"]) == 1
    assert "--top-n must be 0 or more, not -1" in capsys.readouterr().err
    assert len(server.requests) == 0
