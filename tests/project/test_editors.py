"""What an editor shows: the answers of pyright's language server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from ..threads import WAIT

CODE = """\
from vllm_client import VllmClient
client = VllmClient()
client.completions.create(prompt="Hello", temperature=0)
client.chat.completions.stream(messages=[], max_tokens=5)
client.embeddings.create(input="Hello", dimensions=5)
client.completions.stream(prompt="Hello", top_)
"""
MAIN = "from basedpyright.langserver import main; main()"


class LanguageServer:
    """basedpyright's language server, over its standard input and output."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._last = 0

    def start(self, project: Path) -> None:
        """Shake hands, as an editor does for a folder."""
        formats = {"hover": {"contentFormat": ["plaintext"]}}
        root = {"uri": project.as_uri(), "name": "project"}
        capabilities = {"textDocument": formats}
        self.ask("initialize", processId=None, workspaceFolders=[root], capabilities=capabilities)
        self._send(method="initialized", params={})

    def open(self, file: Path) -> None:
        """Open a file, as an editor does."""
        document = {"uri": file.as_uri(), "languageId": "python", "version": 1}
        params = {"textDocument": {**document, "text": file.read_text()}}
        self._send(method="textDocument/didOpen", params=params)

    def ask(self, method: str, **params: Any) -> Any:
        """The result of a request."""
        self._last += 1
        self._send(id=self._last, method=method, params=params)
        while True:
            message = self._receive()
            if "method" not in message and message.get("id") == self._last:
                return message["result"]
            if "method" in message and "id" in message:  # The server asks too.
                items = message["params"].get("items", ()) if message.get("params") else ()
                self._send(id=message["id"], result=[None for _ in items])

    def _send(self, **message: Any) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        self._process.stdin.flush()

    def _receive(self) -> Dict[str, Any]:
        output = self._process.stdout
        assert output is not None
        length = 0
        for line in iter(lambda: output.readline().strip(), b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        message: Dict[str, Any] = json.loads(output.read(length))
        return message

    def close(self) -> None:
        """End the server."""
        self._send(method="exit")
        try:
            self._process.communicate(timeout=WAIT)
        finally:
            self._process.kill()


@pytest.fixture(name="editor", scope="module")
def _editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    project = tmp_path_factory.mktemp("project")
    file = project / "program.py"
    file.write_text(CODE)
    root = Path(__file__).parents[2]
    (project / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(root)]}))
    pytest.importorskip("basedpyright")
    server = LanguageServer()
    try:
        server.start(project)
        server.open(file)
        yield lambda method, word: server.ask(
            f"textDocument/{method}",
            textDocument={"uri": file.as_uri()},
            position=place_of(word),
        )
    finally:
        server.close()


def place_of(word: str) -> Dict[str, int]:
    """The end of the only occurrence of a word in the code."""
    (found,) = [
        {"line": number, "character": line.index(word) + len(word)}
        for number, line in enumerate(CODE.splitlines())
        if word in line
    ]
    return found


@pytest.mark.parametrize(
    ("keyword", "shown"),
    [
        (
            "temperature",
            "temperature: float | None\n\n0 (greedy) or more. Default 1 or the model's.",
        ),
        ("max_tokens", "The older name of"),
        ("dimensions", "dimensions: int\n\n"),
    ],
)
def test_the_hover_of_a_keyword_explains_it(editor: Any, keyword: str, shown: str) -> None:
    """Pyright shows type and documentation of a keyword on which the mouse rests."""
    assert shown in editor("hover", keyword)["contents"]["value"]


def test_completion_offers_the_keywords(editor: Any) -> None:
    """Pyright completes the name of a keyword."""
    offered = [item["label"] for item in editor("completion", ", top_")["items"]]
    assert {"top_p=", "top_k="} <= set(offered)
