"""``python -m tests.real.lm_eval``: the adapter for lm-evaluation-harness beside its own models.

Run by hand, with a server of a small model in float32 and without a BOS token, and in an
environment with lm_eval, transformers and torch::

    vllm serve MODEL --dtype float32 --max-model-len 512 …
    python -m tests.real.lm_eval --base-url http://127.0.0.1:8000 --weights MODEL

1. Tasks from files, by the harness's own command: our model beside its ``local-completions``.
2. Pairs whose boundary lies inside a token, beside the model run directly by transformers.
3. With ``--speed``: requests per second and CPU time of both.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

TOLERANCE = 1e-4
DIRECT_TOLERANCE = 1e-3
_LENGTH = 512
_WORDS = [
    "red",
    "sea",
    "moon",
    "old",
    "tree",
    "light",
    "paper",
    "stone",
    "river",
    "cloud",
    "seven",
    "winter",
]
_TASK = {
    "dataset_path": "json",
    "test_split": "test",
    "metadata": {"version": 1.0},
}
_KINDS: Dict[str, Dict[str, Any]] = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{label}}",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True}
            for name in ("acc", "acc_norm")
        ],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [
            {"metric": name, "aggregation": kind, "higher_is_better": False}
            for name, kind in (
                ("word_perplexity", "weighted_perplexity"),
                ("bits_per_byte", "bits_per_byte"),
            )
        ],
    },
    "writing": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["e", "\n"], "do_sample": False, "max_gen_toks": 12},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
}
HARD: List[Tuple[str, str]] = [
    ("The ans", "wer is 42"),
    ("The answer is ", "42"),
    ("The answer is  ", " 42"),
    ("(", "A)"),
    ('{"a":', '"b"}'),
    ("un", "believable"),
    ("caf", "\u00e9 au lait"),
    ("\U0001f44d", "\U0001f3fd ok"),
    ("na\u0308", "\u0308ive"),
    ("\u6f22", "\u5b57\u306e\u8aac\u660e"),
    ("", "The answer"),
    ("", "\u00e9"),
    ("line\n", "\nnext"),
    ("a", "b"),
    ("I am", " I"),
    ("12", "34567"),
]


def main() -> int:
    """Make the checks. Returns 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.lm_eval", description=__doc__)
    parser.add_argument("--base-url", required=True, help="the server, without /v1")
    parser.add_argument("--weights", required=True, help="the folder of the model it serves")
    parser.add_argument("--speed", type=int, default=0, metavar="PAIRS", help="measure as well")
    parser.add_argument("--concurrency", type=int, default=16)
    args = parser.parse_args()
    os.environ.update(
        {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    )
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        failed += _command(args, Path(folder))
        failed += _direct(args)
        if args.speed:
            _speed(args)
    print(f"{failed} checks failed" if failed else "all checks passed")
    return int(failed > 0)


# 1. By the harness's own command.


def _command(args: argparse.Namespace, folder: Path) -> int:
    _write_tasks(folder)
    end = _tokenizer(args).eos_token_id
    common = f"max_length={_LENGTH}"
    ours = _samples(
        folder,
        "vllm_client.contrib.lm_eval",
        "vllm-client",
        f"base_url={args.base_url},bos_token_id={end},output={folder}/kept.jsonl,{common}",
    )
    theirs = _samples(
        folder,
        "lm_eval",
        "local-completions",
        f"base_url={args.base_url}/v1/completions,model={_model(args)},tokenizer={args.weights},"
        f"tokenizer_backend=huggingface,num_concurrent={args.concurrency},{common}",
    )
    failed = 0
    for kind in _KINDS:
        pairs = list(zip(ours[kind], theirs[kind]))
        if kind == "writing":
            differ = sum(own != other for own, other in pairs)
            print(f"{kind}: {len(pairs)} texts, {differ} differ, such as {ours[kind][0]!r}")
            failed += differ > 0
            continue
        numbers = [(float(own[0]), float(other[0])) for own, other in pairs]
        worst = max(abs(own - other) for own, other in numbers)
        greedy = sum(own[1:] != other[1:] for own, other in pairs)
        print(f"{kind}: {len(pairs)} requests, largest difference {worst:.2e}, {greedy} is_greedy")
        failed += worst > TOLERANCE or greedy > 0
    return failed


def _write_tasks(folder: Path) -> None:
    chance = random.Random(3)

    def words(count: int) -> str:
        return " ".join(chance.choice(_WORDS) for _ in range(count))

    rows: Dict[str, List[Dict[str, Any]]] = {
        "choice": [
            {"question": words(9), "choices": [words(n) for n in (1, 2, 4)], "label": 1}
            for _ in range(20)
        ],
        "rolling": [{"text": words(count)} for count in (1, 5, 60, 150, 400, 700)],
        "writing": [{"question": words(12), "answer": words(1)} for _ in range(12)],
    }
    for kind, task in _KINDS.items():
        data = folder / f"{kind}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows[kind]))
        whole = {
            "task": kind,
            **_TASK,
            **task,
            "dataset_kwargs": {"data_files": {"test": str(data)}},
        }
        (folder / f"{kind}.yaml").write_text(json.dumps(whole))  # JSON is YAML.


def _samples(folder: Path, module: str, model: str, model_args: str) -> Dict[str, List[Any]]:
    """The answers that the harness logged, by task, in order."""
    out = folder / model
    command = [sys.executable, "-m", module, "run", "--model", model, "--model_args", model_args]
    command += ["--include_path", str(folder), "--tasks", ",".join(_KINDS)]
    command += ["--output_path", str(out), "--log_samples"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-4000:]}")
    return {kind: _answers(next(out.rglob(f"samples_{kind}_*.jsonl"))) for kind in _KINDS}


def _answers(path: Path) -> List[Any]:
    rows = sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: row["doc_id"])
    answers = [each for row in rows for each in row["filtered_resps"]]
    return [each if isinstance(each, list) else [each] for each in answers]


# 2. Beside transformers.


def _direct(args: argparse.Namespace) -> int:
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    tokenizer = _tokenizer(args)
    network = AutoModelForCausalLM.from_pretrained(args.weights, dtype=torch.float32).eval()
    found = _ours(args).loglikelihood(_instances(HARD))
    worst, wrong = 0.0, 0
    for pair, (logprob, is_greedy) in zip(HARD, found):
        ids, start = _joint(tokenizer, *pair)
        with torch.no_grad():
            scores = torch.log_softmax(network(torch.tensor([ids])).logits[0].double(), -1)
        places = range(start, len(ids))
        expected = sum(float(scores[at - 1, ids[at]]) for at in places)
        greedy = all(int(scores[at - 1].argmax()) == ids[at] for at in places)
        worst = max(worst, abs(expected - logprob))
        wrong += greedy != is_greedy
        print(f"  {pair!r}: {len(ids) - start} tokens, {logprob:.6f}, transformers {expected:.6f}")
    print(f"hard pairs: {len(HARD)}, largest difference {worst:.2e}, {wrong} is_greedy")
    return int(worst > DIRECT_TOLERANCE or wrong > 0)


def _joint(tokenizer: Any, context: str, continuation: str) -> Tuple[List[int], int]:
    """The tokens of both as one text, and the first that is not one of the context alone."""
    alone = tokenizer.encode(context, add_special_tokens=False)
    whole = tokenizer.encode(context + continuation, add_special_tokens=False)
    start = next((n for n, id_ in enumerate(alone) if whole[n] != id_), len(alone))
    return (whole, start) if start else ([tokenizer.eos_token_id, *whole], 1)


# 3. Speed.


def _speed(args: argparse.Namespace) -> None:
    chance = random.Random(5)
    contexts = [" ".join(chance.choice(_WORDS) for _ in range(60)) for _ in range(args.speed // 4)]
    pairs = [(context, " " + word) for context in contexts for word in _WORDS[:4]]
    models = {"vllm-client": _ours(args), "local-completions": _theirs(args)}
    for model in models.values():
        model.loglikelihood(_instances(pairs[:32]))
    values = {}
    for _ in range(3):
        for name, model in models.items():
            began, used = time.perf_counter(), _cpu()
            values[name] = model.loglikelihood(_instances(pairs))
            wall, cpu = time.perf_counter() - began, _cpu() - used
            print(
                f"{name}: {len(pairs)} pairs, {len(pairs) / wall:.0f} a second, "
                f"{1000 * cpu / len(pairs):.2f} ms of CPU time each"
            )
    ours, theirs = values.values()
    print(f"largest difference {max(abs(a[0] - b[0]) for a, b in zip(ours, theirs)):.2e}")


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _ours(args: argparse.Namespace) -> Any:
    from vllm_client.contrib.lm_eval import VllmClientLM  # noqa: PLC0415

    return VllmClientLM(
        args.base_url,
        bos_token_id=_tokenizer(args).eos_token_id,
        max_concurrency=args.concurrency,
        progress=False,
    )


def _theirs(args: argparse.Namespace) -> Any:
    from lm_eval.models.openai_completions import LocalCompletionsAPI  # noqa: PLC0415

    return LocalCompletionsAPI(
        base_url=f"{args.base_url}/v1/completions",
        model=_model(args),
        tokenizer=args.weights,
        tokenizer_backend="huggingface",
        num_concurrent=args.concurrency,
        max_length=_LENGTH,
    )


def _model(args: argparse.Namespace) -> str:
    from vllm_client import VllmClient  # noqa: PLC0415

    with VllmClient(args.base_url) as client:
        return client.models.default().id


def _tokenizer(args: argparse.Namespace) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415

    return AutoTokenizer.from_pretrained(args.weights)


def _instances(pairs: Sequence[Tuple[str, str]]) -> List[Any]:
    from lm_eval.api.instance import Instance  # noqa: PLC0415

    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]


if __name__ == "__main__":
    sys.exit(main())
