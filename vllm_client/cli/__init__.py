"""``vllm-client``: ask a vLLM server from the command line."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
from typing import Any, Dict, Iterator, List, Optional, Sequence, TextIO, Union

from .._version import __version__
from ..client import VllmClient
from ..events import Content, Text
from ..exceptions import VllmError
from ..streams import ChatCompletionStream, CompletionStream
from ..timeouts import Timeout
from ..types import ChatCompletion
from ..types.messages import Message

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells give it."""

# C0 and C1 controls other than tab and line feed, and what turns the direction of writing around.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program.

    Args:
        argv: The arguments, without the program's name; else those of the process.

    Returns:
        The exit status: 0 only for whole answers, 1 after an error, 130 after Ctrl-C. Whatever
        text arrived has been printed in any case.
    """
    arguments = _parser().parse_args(argv)
    for file in (sys.stdout, sys.stderr):
        if isinstance(file, io.TextIOWrapper):  # Whatever replaced it takes any text.
            file.reconfigure(errors="backslashreplace")
    try:
        with _client(arguments) as client:
            return int(arguments.run(client, arguments))
    except (VllmError, TypeError, ValueError) as error:
        return _fail(error)
    except BrokenPipeError:
        sys.stderr.close()  # Python would complain about the pipe once more when it ends.
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vllm-client", description="Ask a vLLM server from the command line."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    complete = commands.add_parser("complete", help="complete a prompt, printing text as it comes")
    complete.add_argument("prompt", nargs="?", help="the prompt; standard input if left out or -")
    complete.set_defaults(run=_complete, max_tokens=256)
    chat = commands.add_parser("chat", help="a conversation; /exit or end of input ends it")
    chat.add_argument("--system", metavar="TEXT", help="how the model shall behave")
    chat.add_argument("--thinking", action="store_true", help="show the reasoning, on stderr")
    chat.set_defaults(run=_chat)
    for command in (complete, chat):
        _add_server(command)
        _add_sampling(command)
    return parser


def _add_server(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("server")
    where.add_argument("--demo", action="store_true", help="use the embedded stand-in for vLLM")
    where.add_argument("--base-url", help="else VLLM_BASE_URL, else http://localhost:8000/v1")
    where.add_argument("--model", help="else the server's own")
    where.add_argument("--timeout", type=float, metavar="S", help="seconds for a whole answer")


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--max-tokens", type=int, metavar="N")
    sampling.add_argument("--temperature", type=float, metavar="T")
    sampling.add_argument("--top-p", type=float, metavar="P")
    sampling.add_argument("--seed", type=int, metavar="N")
    sampling.add_argument("--stop", action="append", metavar="TEXT", help="may be repeated")


@contextlib.contextmanager
def _client(arguments: argparse.Namespace) -> Iterator[VllmClient]:
    with contextlib.ExitStack() as stack:
        base_url, key = arguments.base_url, None
        if arguments.demo:
            from ..testing import FakeServer  # noqa: PLC0415 — only a demonstration needs it

            # A key of the environment is meant for a server of the user's.
            base_url, key = stack.enter_context(FakeServer(delay=0.02)).base_url, ""
        yield stack.enter_context(VllmClient(base_url, api_key=key))


def _fields(arguments: argparse.Namespace) -> Dict[str, Any]:
    names = ("model", "max_tokens", "temperature", "top_p", "seed", "stop")
    given = {name: getattr(arguments, name) for name in names}
    fields = {name: value for name, value in given.items() if value is not None}
    if arguments.timeout is not None:
        fields["timeout"] = Timeout(total=arguments.timeout)
    return fields


def _complete(client: VllmClient, arguments: argparse.Namespace) -> int:
    prompt = arguments.prompt
    if prompt in {None, "-"}:
        prompt = sys.stdin.read()
    with client.completions.stream(prompt=prompt, **_fields(arguments)) as stream:
        _show(stream)
    return 0


def _chat(client: VllmClient, arguments: argparse.Namespace) -> int:
    history: List[Message] = []
    if arguments.system:
        history.append({"role": "system", "content": arguments.system})
    status = 0
    for line in _lines():
        question: Message = {"role": "user", "content": line}
        try:
            answer = _answer(client, [*history, question], arguments)
        except VllmError as error:
            # The conversation goes on as if the question had not been asked.
            status = _fail(error)
        else:
            history += [question, answer]
    return status


def _lines() -> Iterator[str]:
    """What the user says, up to ``/exit`` or the end of the input."""
    asking = sys.stdin.isatty()
    while True:
        if asking:
            print("> ", end="", flush=True)
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            if not asking:
                raise
            print()
            continue
        if not line or line.strip() == "/exit":
            return
        if line.strip():
            yield line.strip()


def _answer(client: VllmClient, asked: List[Message], arguments: argparse.Namespace) -> Message:
    said = ChatCompletion("", "", 0, [])
    try:
        with client.chat.completions.stream(messages=asked, **_fields(arguments)) as stream:
            try:
                _show(stream, thinking=arguments.thinking)
            finally:
                said = stream.snapshot
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        # Ends the answer and not the program; what was said stays said.
        print("stopped", file=sys.stderr)
    return {**said.assistant_message(), "content": said.text}


def _show(stream: Union[CompletionStream, ChatCompletionStream], *, thinking: bool = False) -> None:
    printer = _Printer(sys.stdout)
    thoughts = _Printer(sys.stderr)
    notes: List[str] = []
    try:
        for event in stream:
            if isinstance(event, (Text, Content)):
                thoughts.end_line()
                printer.write(event.text)
            elif event.type == "reasoning" and thinking:
                thoughts.write(event.text)
            notes += _noted(event)
    finally:
        thoughts.end_line()
        printer.end_line()
        for note in notes:
            print(visible(note), file=sys.stderr)


def _noted(event: Any) -> List[str]:
    if event.type == "finish_reason":
        return [f"finish reason: {event.reason}"]
    if event.type == "tool_call":
        return [f"tool call: {event.name}({event.arguments})"]
    if event.type == "usage":
        counts = f"{event.prompt_tokens} prompt + {event.completion_tokens} completion"
        return [f"tokens: {counts} = {event.total_tokens}"]
    return []


class _Printer:
    """Writes a model's text as it comes; to a terminal, with its control characters shown."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._terminal = file.isatty()
        self._ended = True

    def write(self, text: str) -> None:
        if text:
            self._file.write(visible(text) if self._terminal else text)
            self._file.flush()
            self._ended = text.endswith("\n")

    def end_line(self) -> None:
        if not self._ended:
            self.write("\n")


def visible(text: str) -> str:
    """The text with its control characters written as escapes, which no terminal obeys."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _fail(error: Exception) -> int:
    sys.stdout.flush()
    print(f"vllm-client: {visible(str(error))}", file=sys.stderr)
    return 1
