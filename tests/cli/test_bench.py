"""``vllm-client bench``: its definitions, its honesty, its files."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from array import array
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from vllm_client import VllmClient
from vllm_client.cli import INTERRUPTED, bench, main
from vllm_client.cli._figures import Figures, percentile
from vllm_client.cli._load import Load, Outcome
from vllm_client.testing import FakeServer
from vllm_client.timings import Timings

from ..threads import WAIT
from .test_complete import Screen


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """An embedded server whose address is in VLLM_BASE_URL."""
    with FakeServer("tiny") as fake:
        monkeypatch.setenv("VLLM_BASE_URL", fake.base_url)
        yield fake


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    """A file of two prompts and an empty line."""
    file = tmp_path / "prompts.txt"
    file.write_text("one\n\ntwo\n")
    return str(file)


def outcome(*stamps: float, tokens: int = 0, delay: float = 0.0, **more: Any) -> Outcome:
    timings = Timings(started=10.0, stamps=array("d", [10 + stamp for stamp in stamps]))
    return Outcome(delay, timings, prompt_tokens=5, output_tokens=tokens, **more)


def test_definitions() -> None:
    """TTFT, TPOT, ITL and E2E are those of ``vllm bench serve``; failures count nowhere."""
    figures = Figures(
        [
            outcome(1.0, 2.0, 4.0, tokens=4, finish_reason="length"),
            outcome(3.0, tokens=1, delay=0.5, finish_reason="stop"),
            Outcome(0.0, error="broken"),
            outcome(),
        ],
        duration=2.0,
        cpu=0.5,
    )
    assert figures.seconds == {
        "ttft": [1.0, 3.0],
        "tpot": [1.0],
        "itl": [1.0, 2.0],
        "e2el": [4.0, 3.0],
        "client_delay": [0.0, 0.5, 0.0, 0.0],
    }
    found = figures.to_dict()
    assert (found["completed"], found["failed"], found["cut_by_max_tokens"]) == (3, 1, 1)
    assert (found["mean_ttft_ms"], found["median_ttft_ms"]) == (2000, 2000)
    assert found["p99_ttft_ms"] == pytest.approx(2980)
    assert (found["output_throughput"], found["total_token_throughput"]) == (2.5, 10)
    assert found["request_throughput"] == 1.5
    assert found["errors"] == {"broken": 1}


@pytest.mark.parametrize("share", [0, 0.3, 0.5, 0.99, 1])
def test_percentiles_are_those_of_numpy(share: float) -> None:
    """Between two values a percentile is interpolated as NumPy does it."""
    numpy = pytest.importorskip("numpy")
    values = [3.0, 1.0, 4.0, 1.5, 9.0]
    assert percentile(values, share) == pytest.approx(numpy.percentile(values, 100 * share))
    assert percentile([7.0], share) == 7


def test_table(server: FakeServer, prompts: str, capsys: Any) -> None:
    """The table has a row for each measure; the warm-up is not counted."""
    assert main(["bench", prompts, "-n", "5", "--max-tokens", "4", "--concurrency", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("requests    5 complete, 0 failed; sent as soon as one ends\n")
    assert "20 out\n" in out
    for label in ("TTFT", "TPOT", "ITL", "E2E", "client delay"):
        assert f"\n{label} " in out
    sent = [request.json["prompt"] for request in server.requests]
    assert sorted(sent[1:]) == ["one", "one", "one", "two", "two"]
    assert all("seed" not in request.json for request in server.requests)


def test_json_svg_and_rate(server: FakeServer, prompts: str, capsys: Any, tmp_path: Path) -> None:
    """--json prints vLLM's names, --svg draws a panel a measure; a rate has random moments."""
    svg = tmp_path / "load.svg"
    options = ["--rate", "500", "--set", "seed=3", "--seed", "7", "--svg", str(svg), "--json"]
    assert main(["bench", prompts, "-n", "6", "--warmup", "0", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["completed"], found["failed"]) == (6, 0)
    assert {"mean_ttft_ms", "median_tpot_ms", "p99_itl_ms", "p99_e2el_ms"} <= found.keys()
    assert len(server.requests) == 6
    assert server.requests[0].json["seed"] == 3
    picture = ET.parse(svg).getroot()
    assert len(picture.findall(".//{*}polyline")) == 5
    assert "TTFT: median" in svg.read_text()


def test_moments_are_repeatable(server: FakeServer) -> None:
    """The same seed gives the same moments, whose mean distance is that of the rate."""
    with VllmClient(server.base_url) as client:
        moments = [next_of(Load(client, rate=4, seed=seed), 2000) for seed in (1, 1, 2)]
    assert moments[0] == moments[1] != moments[2]
    assert moments[0][-1] / 1999 == pytest.approx(1 / 4, rel=0.1)


def next_of(load: Load, count: int) -> List[float]:
    return [moment for moment, _ in zip(load._moments(4), range(count))]


def test_chat_and_rows(server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Rows are prompts or JSON with fields of their own; --chat sends prompts as messages."""
    rows = 'hello\n{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}\n'
    monkeypatch.setattr(sys, "stdin", io.StringIO(rows))
    assert main(["bench", "-", "--chat", "--concurrency", "1", "--warmup", "1", "--json"]) == 0
    bodies = [request.json for request in server.requests]
    assert [body["messages"][0]["content"] for body in bodies] == ["hello", "hello", "hi"]
    assert [body["max_tokens"] for body in bodies] == [128, 128, 3]
    capsys.readouterr()


def test_incomplete_responses_are_failures(server: FakeServer, prompts: str, capsys: Any) -> None:
    """A stream that breaks off, and a 503, are failures: status 3, and no time of theirs counts."""
    server.enqueue(cut_after=2)
    server.enqueue(status=503)
    assert main(["bench", prompts, "-n", "4", "--concurrency", "1", "--warmup", "0", "--json"]) == 3
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["completed"], found["failed"]) == (2, 2)
    assert sorted(error.partition(":")[0] for error in found["errors"]) == [
        "ServiceUnavailableError",
        "StreamInterruptedError",
    ]
    assert "failed 1 times: StreamInterruptedError" in err
    assert len(server.requests) == 4  # Nothing is retried: that would hide the failure.


def test_nothing_complete(server: FakeServer, prompts: str, capsys: Any) -> None:
    """Without any complete response the status is 1, and only the delay is measured."""
    server.always(status=503)
    assert main(["bench", prompts, "--warmup", "0"]) == 1
    out = capsys.readouterr().out
    assert "0 complete, 2 failed" in out
    assert "TTFT" not in out


def test_warmup_fails(server: FakeServer, prompts: str, capsys: Any) -> None:
    """If the first request fails, nothing is measured, and the message is that of the server."""
    server.always(status=400, error="no such thing")
    assert main(["bench", prompts]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no such thing" in err
    assert len(server.requests) == 1


def test_usage_is_missing(server: FakeServer, prompts: str, capsys: Any) -> None:
    """Without token counts the times are measured all the same."""
    assert main(["bench", prompts, "--set", "stream_options=null", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total_output_tokens"] == 0
    assert "mean_ttft_ms" in found
    assert "mean_tpot_ms" not in found


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ("", [], "there is no prompt in it"),
        ('{"max_tokens": 3}\n', [], "-, row 1: it has neither prompt nor messages"),
        ("a\n", ["-n", "0"], "-n must be above 0"),
        ("a\n", ["--rate", "-1"], "--rate must be above 0"),
        ("a\n", ["--concurrency", "0"], "--concurrency must be above 0"),
    ],
)
def test_refused(
    server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    rows: str,
    options: List[str],
    message: str,
) -> None:
    """Without prompts, or with a number out of range, nothing is sent."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(rows))
    assert main(["bench", "-", *options]) == 1
    assert message in capsys.readouterr().err
    assert len(server.requests) == 0


def test_warnings() -> None:
    """Requests that the client itself sent late, and a busy client, make the figures doubtful."""
    outcomes = [outcome(1.0, delay=0.5), outcome(1.0, delay=0.001)]
    found = list(bench._warnings(Figures(outcomes, duration=1.0, cpu=0.9)))
    assert found[0].startswith("1 of 2 requests were sent more than 10 ms late by this client")
    assert found[1] == "this client used 90% of a core: it may be the limit"
    assert list(bench._warnings(Figures(outcomes[1:], duration=1.0, cpu=0.1))) == []


def test_a_load_above_the_limit_is_told(server: FakeServer, prompts: str, capsys: Any) -> None:
    """With --rate above what --concurrency lets through, requests wait, and that is told."""
    server.always(delay=0.05)
    options = ["--rate", "10000", "--concurrency", "1", "-n", "4", "--max-tokens", "2"]
    assert main(["bench", prompts, *options]) == 0
    out, err = capsys.readouterr()
    assert "sent 10000 a second" in out
    assert "late by this client" in err


def test_progress(server: FakeServer, prompts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the number of ended requests is shown."""
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    assert main(["bench", prompts]) == 0
    assert screen.getvalue().startswith("\r2 of 2\n")


def test_ctrl_c(server: FakeServer, prompts: str) -> None:
    """Ctrl-C closes the streams and ends at once, without a traceback."""
    server.always(stall_after=2)
    running = subprocess.Popen(
        [sys.executable, "-m", "vllm_client", "bench", prompts, "--warmup", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    server.wait_for(2)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=WAIT)
    assert running.returncode == INTERRUPTED
    assert "Traceback" not in err
    server.wait_for_abort(2)


def test_an_interrupted_load(server: FakeServer) -> None:
    """An exception in the main thread ends the streams that run."""
    server.always(stall_after=2)
    reached = threading.Event()

    def interrupt(_: int) -> None:
        reached.set()
        raise KeyboardInterrupt

    with VllmClient(server.base_url) as client, pytest.raises(KeyboardInterrupt):
        Load(client, concurrency=1).run([{"prompt": "x"}, {"prompt": "y"}], interrupt)
    assert reached.is_set()
    assert len(server.requests) == 1


def test_an_interrupted_load_sends_nothing_more(server: FakeServer) -> None:
    """Ctrl-C ends a long load at once: requests that wait are not sent."""
    started = threading.Event()

    def interrupt(_: int) -> None:
        started.set()
        raise KeyboardInterrupt

    server.always(delay=0.1)
    with VllmClient(server.base_url) as base:
        load = Load(base.with_options(max_retries=0), concurrency=2)
        with pytest.raises(KeyboardInterrupt):
            load.run([{"prompt": "x"}] * 1000, interrupt)
    assert started.is_set()
    assert len(server.requests) < 100


def test_a_row_with_an_unknown_field(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A misspelt field in any row is refused before the load, with the number of the row."""
    rows = '{"prompt": "a"}\n{"prompt": "b", "max_token": 3}\n{"prompt": "c"}\n'
    monkeypatch.setattr(sys, "stdin", io.StringIO(rows))
    assert main(["bench", "-"]) == 1
    err = capsys.readouterr().err
    assert "-, row 2: vLLM has no request field 'max_token'; did you mean 'max_tokens'?" in err
    assert len(server.requests) == 0


def test_a_row_with_a_wrong_value_is_a_failure(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A value that cannot be sent is a failed request; the others are still sent and counted."""
    rows = '{"prompt": "a"}\n{"prompt": "b", "temperature": NaN}\n{"prompt": "c"}\n'
    monkeypatch.setattr(sys, "stdin", io.StringIO(rows))
    assert main(["bench", "-", "-n", "9", "--concurrency", "1", "--json"]) == bench.SOME_FAILED
    figures = json.loads(capsys.readouterr().out)
    assert (figures["completed"], figures["failed"]) == (6, 3)


def test_an_error_of_a_thread_is_raised(server: FakeServer) -> None:
    """An error that nobody expects ends the load: no request is left out in silence."""

    class Faulty(Dict[str, Any]):
        def __contains__(self, _: object) -> bool:
            raise RuntimeError("a fault of the program")

    with VllmClient(server.base_url) as client, pytest.raises(RuntimeError, match="a fault"):
        Load(client, 2).run([{"prompt": "a"}, Faulty()], lambda _: None)


@pytest.mark.parametrize(("rows", "row"), [("a\n{x\n", 2), ("{\n", 1)])
def test_a_row_that_is_no_json(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: Any, rows: str, row: int
) -> None:
    """A broken row is named."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(rows))
    assert main(["bench", "-"]) == 1
    assert f"-, row {row}: Expecting property name" in capsys.readouterr().err


def test_files_with_a_mark(server: FakeServer, tmp_path: Path) -> None:
    """The byte order mark of a file, which Windows writes, belongs to no prompt."""
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\n')
    assert main(["bench", str(file), "--warmup", "0"]) == 0
    assert server.requests[0].json["prompt"] == "a"


def test_warmup_out_of_range(server: FakeServer, tmp_path: Path, capsys: Any) -> None:
    """A negative number of requests is refused by the name of its option."""
    (tmp_path / "rows").write_text("a\n")
    assert main(["bench", str(tmp_path / "rows"), "--warmup", "-1"]) == 1
    assert "--warmup must be 0 or more, not -1" in capsys.readouterr().err
