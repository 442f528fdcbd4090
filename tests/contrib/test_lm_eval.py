"""The adapter inside lm-evaluation-harness; skipped where the harness is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from vllm_client import EvaluationError, VllmClient
from vllm_client.testing import FakeServer

MISSING = "the extra lm-eval is not installed"
CONTEXT = "Machine learning is"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as made:
        yield made


def model(server: FakeServer, **arguments: Any) -> Any:
    pytest.importorskip("lm_eval", reason=MISSING)
    from vllm_client.contrib.lm_eval import VllmClientLM  # noqa: PLC0415

    return VllmClientLM(server.base_url, progress=False, **arguments)


def instances(*requests: Any) -> List[Any]:
    from lm_eval.api.instance import Instance  # noqa: PLC0415

    return [Instance("any", {}, request, index) for index, request in enumerate(requests)]


def test_requests(server: FakeServer) -> None:
    """Instances of the harness go in, and what it expects comes out."""
    lm = model(server, bos_token_id=1)
    with VllmClient(server.base_url) as client:
        own = client.evaluate.loglikelihood(CONTEXT, " a field")
        written = client.completions.create(prompt=CONTEXT, max_tokens=4, temperature=0)
    pairs = instances((CONTEXT, " a field"))
    assert lm.loglikelihood(pairs) == [(own.logprob, own.is_greedy)]
    assert lm.generate_until(instances((CONTEXT, {"max_gen_toks": 4}))) == [written.text]
    (rolled,) = lm.loglikelihood_rolling(instances((CONTEXT,)))
    assert rolled < 0


def test_windows_are_the_same(server: FakeServer) -> None:
    """The windows are those of the harness's own function."""
    utils = pytest.importorskip("lm_eval.utils", reason=MISSING)
    from vllm_client.contrib._evaluation import rolling_windows  # noqa: PLC0415

    for count in range(1, 30):
        for size in range(1, 9):
            ids = list(range(1, count + 1))
            windows = utils.get_rolling_token_windows(ids, 0, size, 1)
            theirs = [utils.make_disjoint_window(each) for each in windows]
            ours = list(rolling_windows(ids, [0], size + 1))
            assert [(sent[:start], sent[start:]) for sent, start in ours] == theirs


def test_conversations(server: FakeServer) -> None:
    """A conversation is written by the server's template; there is none by name."""
    lm = model(server)
    with pytest.raises(EvaluationError, match="cannot be written as text"):
        lm.apply_chat_template([{"role": "user", "content": "Hello"}])
    assert lm.chat_template(True) == ""
    assert lm.model in lm.tokenizer_name
    with pytest.raises(ValueError, match="one chat template"):
        lm.chat_template("other")


def test_what_is_refused(server: FakeServer) -> None:
    """Images are refused, and so are arguments that are none."""
    lm = model(server)
    with pytest.raises(ValueError, match="images or sounds"):
        lm.generate_until(instances(("x", {}, {"visual": []})))
    with pytest.raises(TypeError, match="num_concurrent"):
        model(server, num_concurrent=3)


def test_the_url_of_the_environment(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a URL the server is that of ``VLLM_BASE_URL``."""
    pytest.importorskip("lm_eval", reason=MISSING)
    from vllm_client.contrib.lm_eval import VllmClientLM  # noqa: PLC0415

    monkeypatch.setenv("VLLM_BASE_URL", server.base_url)
    assert VllmClientLM(progress=False).model == model(server).model


def test_the_url_of_local_completions(server: FakeServer) -> None:
    """The URL that the harness's own model takes will do too, and a model may be named."""
    pytest.importorskip("lm_eval", reason=MISSING)
    from vllm_client.contrib.lm_eval import VllmClientLM  # noqa: PLC0415

    named = model(server).model
    lm = VllmClientLM(f"{server.base_url}/completions", model=named, progress=False)
    assert lm.loglikelihood(instances((CONTEXT, " a")))[0][0] < 0


def test_command(server: FakeServer, tmp_path: Path) -> None:
    """The harness's own command runs a task from a file, and keeps the results."""
    pytest.importorskip("lm_eval", reason=MISSING)
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"q": CONTEXT, "o": [" a field", " the data"], "a": 0}))
    metric = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
    task = {
        "task": "small",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(tmp_path / "c")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{o}}",
        "doc_to_target": "{{a}}",
        "metric_list": [metric],
    }
    (tmp_path / "small.yaml").write_text(json.dumps(task))  # JSON is YAML.
    arguments = f"base_url={server.base_url},output={tmp_path}/out.jsonl"
    command = [sys.executable, "-m", "vllm_client.contrib.lm_eval", "run"]
    command += ["--model", "vllm-client", "--model_args", arguments]
    command += ["--include_path", str(tmp_path), "--tasks", "small"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "|small" in done.stdout
    assert len((tmp_path / "out.loglikelihood.jsonl").read_text().splitlines()) == 2
