"""Help, completion and the manual page, all made from the parser."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, List

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


def completed(script: Path, line: str) -> List[str]:
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    quoted = " ".join(map(shlex.quote, words))
    program = (
        f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        '_vllm_client; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    bash = ["bash", "--norc", "-c", program]
    done = subprocess.run(bash, capture_output=True, text=True, check=True, cwd=script.parent)
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash(tmp_path: Path, capsys: Any) -> None:
    """Bash completes commands, options, choices and files."""
    script = tmp_path / "completion.sh"
    script.write_text(printed(capsys, "completion", "bash"))
    (tmp_path / "prompts.txt").touch()
    assert completed(script, "vllm-client co") == ["complete", "completion"]
    assert completed(script, "vllm-client chat --im") == ["--image"]
    assert completed(script, "vllm-client complete --max") == ["--max-tokens"]
    assert completed(script, "vllm-client completion f") == ["fish"]
    assert completed(script, "vllm-client bench pro") == ["prompts.txt"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell: str, capsys: Any, tmp_path: Path) -> None:
    """The scripts name each command and option; where the shell is installed it accepts them."""
    script = tmp_path / "script"
    script.write_text(printed(capsys, "completion", shell))
    text = script.read_text()
    for command in commands_of(build_parser()):
        assert command.name in text
        for argument in command.arguments:
            for flag in argument.flags:
                assert (flag if shell == "zsh" else flag.lstrip("-")) in text
    if shutil.which(shell):
        subprocess.run([shell, "--no-execute", str(script)], check=True)


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
