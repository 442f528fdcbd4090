"""tox.ini and .ci/run make the same checks, with the same commands."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Dict, List

import pytest

ROOT = Path(__file__).parents[2]
STEPS = {
    "lint": "lint",
    "types": "types",
    "coverage": "branch coverage of the source tree",
    "plain": "the same promises with every shortcut switched off",
    "build": "sdist and wheel",
}
"""The environments of tox.ini, and the step of .ci/run with the same commands."""


def tox() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini", encoding="utf-8")
    return parser


def steps() -> Dict[str, List[str]]:
    """The title of each step of .ci/run, and its commands in the spelling of tox.ini."""
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    parts = re.split(r'^step "([^"]*)"$', text, flags=re.MULTILINE)
    return {title: commands(body) for title, body in zip(parts[1::2], parts[2::2])}


def commands(body: str) -> List[str]:
    plain = body.replace('"', "").replace("$work", "{env_tmp_dir}")
    plain = re.sub(r"^[A-Z_]+=\S+ ", "", plain, flags=re.MULTILINE)
    return [line for line in plain.splitlines() if line and not line.startswith(("#", "export "))]


@pytest.mark.parametrize("name", STEPS)
def test_commands_are_the_same(name: str) -> None:
    """An environment of tox.ini has the commands of its step in .ci/run."""
    wanted = tox()[f"testenv:{name}"]["commands"].strip().splitlines()
    assert wanted
    assert steps()[STEPS[name]] == wanted


def test_variables_are_the_same() -> None:
    """The coverage gate of tox.ini sets the environment variables that .ci/run sets."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for line in tox()["testenv:coverage"]["set_env"].strip().splitlines():
        name, value = line.split(" = ")
        spelt = value.replace("{env_tmp_dir}", "$work")
        assert re.search(rf'{name}="?{re.escape(spelt)}"?\s', script), name


def test_every_python_is_tested() -> None:
    """tox.ini has an environment for each version of Python in the classifiers."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    versions = re.findall(r"Python :: 3\.(\d+)$", setup["metadata"]["classifiers"], re.MULTILINE)
    environments = tox()["tox"]["env_list"].split(", ")
    assert [f"py3{minor}" for minor in versions] == [n for n in environments if n[:2] == "py"]
    assert set(environments) >= set(STEPS)
