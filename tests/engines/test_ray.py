"""``Mapper`` in Ray Data, on a real cluster of this machine."""

from __future__ import annotations

from typing import Any, Iterator

import pytest

from vllm_client.batch import Mapper

from .conftest import WRONG

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install .[engines]")
data = pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install .[engines]")

pytestmark = pytest.mark.filterwarnings("default")
COUNT = 400


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A cluster with two processors, which keeps the order of rows."""
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 << 20,
        logging_level="error",
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    yield
    ray.shutdown()


def rows(count: int = COUNT) -> Any:
    """Rows of which each hundredth is refused by the server."""
    prompts = [WRONG if number % 100 == 7 else f"p{number}" for number in range(count)]
    return data.from_items([{"id": n, "prompt": prompt} for n, prompt in enumerate(prompts)])


def check(found: Any) -> None:
    """Every row is there, in order, with its own answer or with its error."""
    assert [row["id"] for row in found] == list(range(COUNT))
    for row in found:
        if row["prompt"] == WRONG:
            assert row["text"] is None
            assert row["error"].startswith("BadRequestError: ")
        else:
            assert (row["text"], row["error"]) == (f"<{row['prompt']}>", None)


@pytest.mark.parametrize("batch_format", ["numpy", "pyarrow", "pandas"])
def test_rows_come_in_order_with_failures_as_values(answering: Any, batch_format: str) -> None:
    """Actors answer all rows; blocks with failures and without fit together."""
    settings = {"base_url": answering.base_url, "extra_outputs": ["prompt_tokens"]}
    mapped = rows().map_batches(
        Mapper,
        fn_constructor_kwargs=settings,
        concurrency=2,
        num_cpus=0.5,
        batch_size=50,
        batch_format=batch_format,
    )
    found = mapped.take_all()
    check(found)
    assert {row["prompt_tokens"] for row in found} == {1, None}
    assert sum(answering.asked.values()) == COUNT


def test_a_mapper_is_a_function_of_tasks(answering: Any) -> None:
    """A mapper that was made here works in tasks, without actors."""
    mapper = Mapper(answering.base_url, max_concurrency=8)
    check(rows().map_batches(mapper, batch_size=100).take_all())


def test_an_actor_that_is_killed(answering: Any) -> None:
    """When an actor is killed in mid-run, its rows are asked again, and none is lost."""
    killing = answering.kill_a_process(asked=30)
    mapped = rows().map_batches(
        Mapper,
        fn_constructor_kwargs={"base_url": answering.base_url, "max_concurrency": 16},
        concurrency=2,
        num_cpus=0.5,
        batch_size=50,
    )
    check(mapped.take_all())
    killing.result()
    # Some rows of the killed actor were asked twice: tasks run at least once.
    assert sum(answering.asked.values()) > COUNT
