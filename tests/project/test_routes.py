"""``docs/routes.md``: every route of vLLM is there, and what it says of each is true."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Iterator, List, NamedTuple

import pytest

from vllm_client import VllmClient
from vllm_client.params import ChatCompletionParams, CompletionParams, names

from ..recorded import event_bytes, json_bytes, stream_bytes
from ..servers import Serve

ROOT = Path(__file__).parents[2]
RESOURCES = ROOT / "vllm_client" / "resources"

# Read from the routers of vLLM 0.32 and 0.33; a WebSocket has no HTTP method.
ROUTES = (Path(__file__).parents[1] / "data" / "routes.txt").read_text().splitlines()


class Row(NamedTuple):
    """A row of a table in the page: routes for one purpose, and how to call the first of them."""

    routes: List[str]
    purpose: str
    call: str
    served: str


def rows() -> Iterator[Row]:
    """The rows of both tables."""
    for line in (ROOT / "docs" / "routes.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            routes, purpose, call, served = (cell.strip() for cell in line.strip("|").split("|"))
            yield Row(re.findall(r"`(\w+ /[^`]*)`", routes), purpose, call, served)


ROWS = list(rows())
WITH_METHOD = [row for row in ROWS if re.match(r"`client\.(?!request\()", row.call)]
WITH_EXAMPLE = [row for row in ROWS if row.call.startswith("`client.request(")]


def first(row: Row) -> str:
    return row.routes[0]


def test_every_route_is_in_the_table_once() -> None:
    """The page has each route of the server, and no other."""
    listed = [route for row in ROWS for route in row.routes]
    assert sorted(listed) == sorted(ROUTES)
    assert all(row.purpose and row.served for row in ROWS)


def test_only_the_websocket_is_out_of_reach() -> None:
    """Every other route has a method or an example."""
    rest = [row for row in ROWS if row not in WITH_METHOD and row not in WITH_EXAMPLE]
    assert [row.routes for row in rest] == [["WEBSOCKET /v1/realtime"]]
    assert rest[0].call.startswith("not reachable")


def paths_in(tree: ast.Module) -> Iterator[str]:
    """The texts in a module; ``{}`` stands for what a formatted text gets at run time."""
    constants = {
        statement.targets[0].id: statement.value.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            yield str(node.value)
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value)
                if isinstance(part, ast.Constant)
                else str(constants.get(getattr(getattr(part, "value", None), "id", ""), "{}"))
                for part in node.values
            )


def reached() -> Iterator[str]:
    """The paths in the sources of the resources, as the server has them."""
    fields = {*names(ChatCompletionParams), *names(CompletionParams)}
    for module in RESOURCES.rglob("*.py"):
        for path in paths_in(ast.parse(module.read_text(encoding="utf-8"))):
            if path not in fields:  # "messages" is no path there.
                yield path if path.startswith("/") else f"/v1/{path}"


REACHED = set(reached())


def is_reached(route: str) -> bool:
    return re.sub(r"\{\w+\}", "{}", route.partition(" ")[2]) in REACHED


@pytest.mark.parametrize("row", WITH_METHOD, ids=first)
def test_a_method_calls_its_route(row: Row) -> None:
    """The methods that the page names exist, and the code of the resources has their path."""
    assert any(is_reached(route) for route in row.routes)
    with VllmClient("http://localhost:9") as client:
        for name in re.findall(r"`client\.([\w.]+)\(", row.call):
            found: object = client
            for part in name.split("."):
                found = getattr(found, part)
            assert callable(found)


def test_the_code_is_searched_for_paths() -> None:
    """The search finds plain, shared and formatted paths, and finds no others."""
    source = '_PATH = "a/b"\nf"{_PATH}/c", f"/d/{x}/e", f"{x.y}/g", "/h", 1'
    found = set(paths_in(ast.parse(source)))
    assert {"a/b", "a/b/c", "/d/{}/e", "{}/g", "/h"} <= found
    assert "POST /v1/messages" in ROUTES
    assert not is_reached("POST /v1/messages")


@pytest.mark.parametrize("row", WITH_EXAMPLE, ids=first)
def test_an_example_calls_its_route(row: Row, serve: Serve) -> None:
    """The example of a route sends the method and the path of that route."""
    code = row.call.strip("`")
    streamed = "stream=True" in code
    done = stream_bytes(event_bytes({"type": "message_stop"}).decode())
    served = serve(done if streamed else json_bytes({}))
    response = eval(code, {"client": served.client, "generated": {"choices": []}})
    if streamed:
        response.close()
    [request] = served.requests
    assert f"{request.method} {request.path.partition('?')[0]}" in row.routes
