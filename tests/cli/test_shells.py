"""Help, completion and the manual page, all made from the parser."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vllm_client.cli import main
from vllm_client.cli._description import commands_of
from vllm_client.cli._parser import EXAMPLES, build_parser

COMMANDS = [command.name for command in commands_of(build_parser())]


def printed(capsys: Any, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    text: str = capsys.readouterr().out
    return text


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_examples_are_right(name: str) -> None:
    """Each example of --help is a command line that the parser accepts."""
    lines = EXAMPLES[name].splitlines()
    assert lines
    for line in lines:
        command = re.search(r"vllm-client ([^<>|)]*)", line)
        assert command is not None
        arguments = shlex.split(command[1])
        assert arguments[0] in ({name} if name else set(COMMANDS))
        build_parser().parse_args(arguments)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help(name: str, capsys: Any) -> None:
    """--help shows the examples, and is at most 100 columns wide."""
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"] if name else ["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert EXAMPLES[name] in text


def test_each_option_is_explained() -> None:
    """Each option of each command has a help text."""
    for command in commands_of(build_parser()):
        options = [each for each in command.arguments if each.flags and not each.words]
        assert [each.flags for each in options if each.flags != ["--json"]] == []


def test_scripts_quote(capsys: Any) -> None:
    """Quotes in the help of an option do not end a word of the script."""
    assert "the server'\\''s default model" in printed(capsys, "completion", "zsh")
    assert "the server\\'s default model" in printed(capsys, "completion", "fish")


def test_man(capsys: Any, tmp_path: Path) -> None:
    """The manual page has every command, option and example; roff formats it without a warning."""
    page = printed(capsys, "man")
    for command in commands_of(build_parser()):
        assert f".SS {command.name}".replace("-", "\\-") in page
        assert EXAMPLES[command.name].splitlines()[0].replace("-", "\\-") in page
    assert "VLLM_API_KEY" in page
    assert ".SH EXIT STATUS" in page
    if shutil.which("groff"):
        groff = ["groff", "-man", "-Tutf8", "-ww"]
        done = subprocess.run(groff, input=page.encode(), capture_output=True, check=True)
        assert done.stderr == b""
        assert "--max-tokens" in re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode())


def lint(page: str, *command: str) -> str:
    """What a program for manual pages says of the page."""
    done = subprocess.run(command, input=page, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="there is no mandoc")
def test_man_with_mandoc(capsys: Any) -> None:
    """Mandoc finds nothing worse than long lines and a missing date."""
    found = lint(printed(capsys, "man"), "mandoc", "-Tlint").splitlines()
    assert [
        line for line in found if "longer than 80 bytes" not in line and "missing date" not in line
    ] == []


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man")
def test_man_breaks_no_option(capsys: Any, tmp_path: Path) -> None:
    """On a narrow terminal, man breaks lines between words: options can be found and copied."""
    page = tmp_path / "vllm-client.1"
    page.write_text(printed(capsys, "man"))
    env = {**os.environ, "MANWIDTH": "60", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
    done = subprocess.run(["man", "-l", str(page)], capture_output=True, check=True, env=env)
    shown = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout.decode())
    assert not re.search("\\w[\u2010-]\n", shown)
    for command in commands_of(build_parser()):
        for argument in command.arguments:
            for flag in argument.flags:
                assert flag in shown
