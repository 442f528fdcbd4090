"""The examples and the README: each is run, and prints what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vllm_client.testing import FakeServer

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("[a-z]*.py"))
NEEDS = {"events_with_match.py": (3, 10)}
USES = {
    "classify_csv.py": "pandas",
    "dask_map.py": "dask.dataframe",
    "embed_folder.py": "numpy",
    "multiple_choice.py": "pandas",
    "ray_data.py": "ray.data",
}
"""A library of the extras ``dev`` and ``engines`` that an example uses."""

PRINTS = {
    "classify_csv.py": ["0    lamp", "3  kettle", "4 of 4 rows have a label"],
    "completion.py": ["length", "Usage("],
    "conversation.py": ["you: What is a server?", "model: "],
    "dask_map.py": ["answer", "200 of 200 rows have an answer"],
    "embed_folder.py": ["(3, ", "embedded: cat.txt dog.txt sea.txt", "failed: no.txt"],
    "errors.py": ["status 404, field model", "rejected: temperature", "did you mean 'max_tokens'"],
    "events_with_match.py": ["finished: ", "tokens in", "complete"],
    "gather.py": ["Machine learning is", "A server is", "Training is"],
    "image.py": ["."],
    "logprobs.py": ["%  '"],
    "ray_data.py": ["0 ", "200 of 200 rows have an answer"],
    "multiple_choice.py": ["What is a token?", "accuracy: 0.5", "chosen  A"],
    "perplexity.py": ["bits per byte", "19 tokens in 1 windows", "purple"],
    "several_choices.py": ["0: Machine learning is", "3: A server is"],
    "stop_with_ctrl_c.py": ["kept: "],
    "streaming_chat.py": ["Usage("],
    "streaming_completions.py": [
        "Streaming completion",
        "Model: fake-vllm",
        "Prompt: What is machine learning?",
        "Finish reason: ",
        "Prompt tokens: ",
        "Completion tokens: ",
        "Total tokens: ",
        "Generation Complete",
    ],
    "thinking.py": ["--- reasoning ---", "--- content ---"],
    "translate_jsonl.py": ["first run: 2 done", "second run: 5 done, 2 of them", "s0 ", "s4 "],
    "tool_loop.py": ['call: get_weather({"city": "Oslo"})', "answer: "],
}


ENGINES = {"dask_map.py", "ray_data.py"}
"""Examples whose library warns of itself, writes its own log to stderr, and starts processes."""


def run(path: Path, **environment: str) -> str:
    """What a program prints; its status must be 0, and its stderr empty unless of an engine."""
    of_engine = path.name in ENGINES
    done = subprocess.run(
        [sys.executable, *([] if of_engine else ["-W", "error"]), str(path)],
        capture_output=True,
        text=True,
        timeout=300 if of_engine else 60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **environment},
    )
    assert (done.returncode, "" if of_engine else done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_prints_its_lines(path):
    """Each example runs against the embedded server and prints its lines in order."""
    if sys.version_info < NEEDS.get(path.name, (3, 9)):
        pytest.skip("needs a newer Python")
    if path.name in USES:
        pytest.importorskip(USES[path.name])
    printed = run(path)
    position = 0
    for line in PRINTS[path.name]:
        position = printed.index(line, position)


def test_the_examples_use_the_server_of_the_environment():
    """With VLLM_BASE_URL set, the examples use that server."""
    with FakeServer() as server:
        server.enqueue(text="from the server of the environment")
        printed = run(ROOT / "examples" / "streaming_completions.py", VLLM_BASE_URL=server.base_url)
    assert "from the server of the environment" in printed


def test_every_example_is_listed():
    """The index of the examples lists each of them."""
    index = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES if f"({path.name})" not in index] == []


def readme_blocks():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_code_of_the_readme_runs(monkeypatch, capsys, tmp_path):
    """Every Python block of the README runs, one after the other, against the embedded server."""
    with FakeServer() as server:
        monkeypatch.setenv("VLLM_BASE_URL", server.base_url)
        monkeypatch.chdir(tmp_path)  # A block writes a file.
        names = {}
        for block in readme_blocks():
            exec(block.replace("http://localhost:8000", server.url), names)
        names["client"].close()
    printed = capsys.readouterr().out
    assert "tokens" in printed
    assert "too long: max_tokens=1000000" in printed
    assert "\n50 0 " in printed


def test_the_readme_shows_code_at_once():
    """Working code stands within the first 25 lines, before the two commands."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert "```python" in lines[:12]
    assert lines.index("```", 3) < 25


def test_the_commands_of_the_readme():
    """The two commands are those that the project promises."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert (
        '\n    pip install . && vllm-client complete --demo "What is machine learning?"\n' in text
    )
    assert '\n    pip install ".[test]" && pytest\n' in text
