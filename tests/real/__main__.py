"""``python -m tests.real``: start real servers, make every check, print the table."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterable, List

import vllm_client

from . import evaluate, faults, fields, operations, pairs, pooling, responses, routes  # noqa: F401 — they fill the table
from .servers import KINDS, Kind, Paths, Server
from .table import CHECKS, DIFFERS, FAILED, Check, Row, markdown, result_of, summary

_ENVIRONMENT = "REAL_VLLM"


def main() -> int:
    """Run the checks that were asked for. Returns 1 if one failed or differs."""
    args = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # So that the servers end too.
    rows: List[Row] = []
    versions: Dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(args.logs or folder)
        logs.mkdir(parents=True, exist_ok=True)
        paths = Paths(Path(args.vllm), Path(args.models or folder), logs)
        _make_models(paths)
        for kind in (each.without(args.without) for each in KINDS):
            chosen = [each for each in CHECKS if _is_chosen(each, kind, args)]
            if chosen:
                rows += _checked(kind, paths, chosen, versions)
    print(f"\n{len(rows)} checks: {summary(rows)}")
    if args.write:
        Path(args.write).write_text(markdown(rows, _versions(versions)), encoding="utf-8")
    return int(any(row.result in {DIFFERS, FAILED} for row in rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.real", description=__doc__)
    given = os.environ.get(_ENVIRONMENT)
    parser.add_argument(
        "--vllm",
        default=given,
        required=given is None,
        help=f"the command vllm of an environment with vLLM; default: {_ENVIRONMENT} "
        "of the environment",
    )
    parser.add_argument("--models", help="folder for the models, to use them again")
    parser.add_argument("--kind", action="append", help="only servers of this kind (repeatable)")
    parser.add_argument("--only", default="", help="only checks whose group or name contains this")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="FLAG",
        help="start servers without this flag, which an older vLLM does not know; "
        "written --without=--FLAG (repeatable)",
    )
    parser.add_argument("--logs", help="folder for the logs of the servers")
    parser.add_argument("--write", help="write the table to this file, as docs/real-servers.md")
    return parser.parse_args()


def _is_chosen(each: Check, kind: Kind, args: argparse.Namespace) -> bool:
    named = args.only in f"{each.group}: {each.name}"
    return kind.name in each.kinds and kind.name in (args.kind or each.kinds) and named


def _make_models(paths: Paths) -> None:
    maker = Path(__file__).with_name("make_models.py")
    python = paths.vllm.with_name("python")
    subprocess.run([str(python), str(maker), str(paths.models)], check=True)


def _checked(
    kind: Kind, paths: Paths, checks: Iterable[Check], versions: Dict[str, str]
) -> List[Row]:
    rows = []
    with Server(kind, paths) as server:
        with server.client() as client:
            versions["vLLM"] = client.request("GET", "/version").json()["version"]
        for each in checks:
            rows.append(result_of(each, server))
            print(rows[-1], flush=True)
            if not server.is_alive:  # One check must not fail all that follow.
                print(f"the server {kind.name} has died, and is started again", flush=True)
                server.stop()
                server.start()
    return rows


def _versions(found: Dict[str, str]) -> Dict[str, str]:
    return {
        "vllm_client": vllm_client.__version__,
        **found,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "servers": "; ".join(f"*{kind.name}*: `{kind.flags}`" for kind in KINDS),
    }


if __name__ == "__main__":
    sys.exit(main())
