"""The parser of the command line, from which help, completion and the manual page are made."""

from __future__ import annotations

import argparse
from typing import Any, Dict, Tuple

from .._version import __version__
from . import (
    batch,
    bench,
    chat,
    complete,
    completion,
    doctor,
    embed,
    evaluate,
    man,
    rerank,
    score,
    serve_demo,
    server,
    tokenize,
)
from ._options import add_options, add_server_options

__all__ = ["EXAMPLES", "build_parser"]

_COMMANDS: Dict[str, Tuple[str, Any, Any]] = {
    "complete": ("continue a prompt", complete.add_arguments, add_options),
    "chat": ("a conversation; /help lists its commands", chat.add_arguments, add_options),
    "batch": (
        "the rows of a file, each exactly once, to a file",
        batch.add_arguments,
        add_options,
    ),
    "bench": ("how fast the server answers under load", bench.add_arguments, add_options),
    "doctor": ("find out why it does not work", doctor.add_arguments, add_server_options),
    "serve-demo": ("run the embedded server until Ctrl-C", serve_demo.add_arguments, None),
    "embed": ("the embeddings of texts", embed.add_arguments, add_server_options),
    "score": ("how well texts match a query", score.add_arguments, add_server_options),
    "rerank": (
        "texts, the best match of a query first",
        rerank.add_arguments,
        add_server_options,
    ),
    "models": ("the served models and adapters", server.add_models, add_server_options),
    "health": ("whether the server is there", server.add_health, add_server_options),
    "version": ("the server's version", server.add_version, add_server_options),
    "metrics": ("the server's metrics", server.add_metrics, add_server_options),
    "tokenize": ("the token ids of a text", tokenize.add_tokenize, add_server_options),
    "detokenize": ("the text of token ids", tokenize.add_detokenize, add_server_options),
    "score-text": (
        "how likely texts are after a context",
        evaluate.add_score_text,
        add_server_options,
    ),
    "choose": (
        "which option a model prefers after a context",
        evaluate.add_choose,
        add_server_options,
    ),
    "perplexity": ("how well a model predicts texts", evaluate.add_perplexity, add_server_options),
}
"""Each command with its help, and what adds its own and the common arguments."""

EXAMPLES: Dict[str, str] = {
    "": """\
  vllm-client complete --demo "What is machine learning?"
  vllm-client chat --base-url http://localhost:8000
  vllm-client doctor""",
    "complete": """\
  vllm-client complete "The capital of Poland is" --max-tokens 8 --temperature 0
  vllm-client complete "Summarise:" < report.txt
  vllm-client complete "2 + 2 =" --logprobs --set logprobs=3
  vllm-client complete "A name:" -n 5 --set top_k=20 --json""",
    "chat": """\
  vllm-client chat --system "Be brief."
  vllm-client chat --image photo.png --model qwen
  vllm-client chat --plain < questions.txt""",
    "batch": """\
  vllm-client batch prompts.txt out.jsonl --prompts --set max_tokens=64
  vllm-client batch in.jsonl out.jsonl --shard 0/8 --progress""",
    "bench": """\
  vllm-client bench prompts.txt -n 200 --concurrency 16 --max-tokens 64
  vllm-client bench prompts.txt --rate 4 --set ignore_eos=true --json
  vllm-client bench chats.jsonl --svg load.svg""",
    "doctor": """\
  vllm-client doctor --base-url https://llm.example.com/v1 --idle 70""",
    "serve-demo": """\
  vllm-client serve-demo --port 0 --model tiny""",
    "embed": """\
  vllm-client embed "a cat" "a dog" --json""",
    "score": """\
  vllm-client score "a cat" "a dog" "a car\"""",
    "rerank": """\
  vllm-client rerank "a cat" --top-n 3 < texts.txt""",
    "models": """\
  vllm-client models --json""",
    "health": """\
  vllm-client health --wait 300""",
    "version": """\
  vllm-client version""",
    "metrics": """\
  vllm-client metrics vllm:num_requests --watch 5""",
    "tokenize": """\
  vllm-client tokenize "Hello world" --json""",
    "detokenize": """\
  vllm-client detokenize 15 27""",
    "score-text": """\
  vllm-client score-text "The sky is" " blue" " green\"""",
    "choose": """\
  vllm-client choose "2 + 2 =" " 3" " 4" " 5" --json""",
    "perplexity": """\
  vllm-client perplexity chapter1.txt chapter2.txt --window 1024""",
    "completion": """\
  source <(vllm-client completion bash)
  vllm-client completion zsh > ~/.zfunc/_vllm-client
  vllm-client completion fish > ~/.config/fish/completions/vllm-client.fish""",
    "man": """\
  vllm-client man > vllm-client.1""",
}
"""Examples of each command; of the program under an empty name."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="vllm-client",
        description="Use a vLLM server from the command line.",
        **_with_examples(""),
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (words, add_own, add_common) in _COMMANDS.items():
        command = commands.add_parser(name, help=words, **_with_examples(name))
        add_own(command)
        if add_common is not None:
            add_common(command)
    for name, words, module in (
        ("completion", "commands for a shell that completes ours", completion),
        ("man", "the manual page, for man", man),
    ):
        command = commands.add_parser(name, help=words, **_with_examples(name))
        module.add_arguments(command, parser)
    return parser


def _with_examples(name: str) -> Dict[str, Any]:
    return {
        "epilog": f"examples:\n{EXAMPLES[name]}".replace("%", "%%"),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
