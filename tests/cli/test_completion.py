"""Completion in real shells: what a line would run after Tab and Enter."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from pathlib import Path
from typing import Callable, Dict, Iterator, List

import pytest

from vllm_client.cli import main

from .terminal import Shell

_ARGUMENTS = """\
#!/bin/sh
printf '<%s>' "$@"
echo ' end'
"""
"""A program in the place of ours: it prints its arguments."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and current folder with files in it; `vllm-client` prints its arguments."""
    for name in ("bin", "chat", "empty"):
        (tmp_path / name).mkdir()
    for name in ("prompts.txt", "my file.txt"):
        (tmp_path / name).touch()
    program = tmp_path / "bin" / "vllm-client"
    program.write_text(_ARGUMENTS)
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def script(shell: str) -> str:
    """The script for a shell."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["completion", shell]) == 0
    return printed.getvalue()


def bash(home: Path) -> Shell:
    """A bash whose start file reads the script."""
    (home / ".bashrc").write_text(f"PS1='ready> '\n{script('bash')}\n")
    return Shell("bash", "--noprofile", "--rcfile", ".bashrc", "-i")


def zsh(home: Path) -> Shell:
    """A zsh that finds the script in its path of functions."""
    (home / "_vllm-client").write_text(script("zsh"))
    (home / ".zshrc").write_text(
        f"PS1='ready> '; fpath=({home} $fpath); autoload -Uz compinit; compinit -D -u\n"
    )
    return Shell("zsh", "-i", ZDOTDIR=str(home))


def zsh_that_reads(home: Path) -> Shell:
    """A zsh whose start file reads the script."""
    (home / ".zshrc").write_text(
        f"PS1='ready> '; autoload -Uz compinit; compinit -D -u\n{script('zsh')}\n"
    )
    return Shell("zsh", "-i", ZDOTDIR=str(home))


def fish(home: Path) -> Shell:
    """A fish that finds the script in its folder of completions."""
    folder = home / "config" / "fish" / "completions"
    folder.mkdir(parents=True)
    (folder / "vllm-client.fish").write_text(script("fish"))
    # Otherwise fish reads all manual pages in a process of its own, which outlives it.
    (home / "data" / "fish" / "generated_completions").mkdir(parents=True)
    start = "function fish_prompt; echo -n 'ready> '; end; set -g fish_greeting"
    (folder.parent / "config.fish").write_text(f"{start}\n")
    folders = {"XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "data")}
    return Shell("fish", "-i", **folders)


SHELLS: Dict[str, Callable[[Path], Shell]] = {
    "bash": bash,
    "zsh": zsh,
    "zsh, read": zsh_that_reads,
    "fish": fish,
}

LINES = {
    "tok": ["tokenize"],
    "cha": ["chat"],  # There is a folder of this name.
    "chat --im": ["chat", "--image"],
    "chat --image pro": ["chat", "--image", "prompts.txt"],
    "chat --model pro": ["chat", "--model", "pro"],
    "complete --max": ["complete", "--max-tokens"],
    "complete --stop a --sto": ["complete", "--stop", "a", "--stop"],
    "complete hi --sys": ["complete", "hi", "--system-file"],
    "score q --base": ["score", "q", "--base-url"],
    "completion f": ["completion", "fish"],
    "score-text --boundary j": ["score-text", "--boundary", "joint"],
    "bench my": ["bench", "my file.txt"],
    "batch prompts.txt my": ["batch", "prompts.txt", "my file.txt"],
    "models --js": ["models", "--json"],
    "--vers": ["--version"],
}
"""What is typed before Tab, and the arguments of the program after it."""


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, home: Path) -> Iterator[Shell]:
    """An interactive shell that completes our program."""
    if shutil.which(request.param.partition(",")[0]) is None:
        pytest.skip(f"there is no {request.param}")
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(SHELLS[request.param](home))
        running.wait_for("ready> ")
        yield running


def arguments_after(shell: Shell, typed: str) -> List[str]:
    """What the program gets if Tab and Enter are pressed behind this."""
    before = shell.text.count("> end")
    shell.type(f"vllm-client {typed}\t\n")
    shell.wait_for("> end", before + 1)
    line = shell.text.split("> end")[before].splitlines()[-1]
    return line.partition("<")[2].split("><")


def test_completion(shell: Shell) -> None:
    """Commands, options, choices and files are completed, also with blanks in their names."""
    found = {typed: arguments_after(shell, typed) for typed in LINES}
    assert found == LINES
