"""``Mapper`` in Dask, on a real cluster of this machine."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List

import pytest

from vllm_client.batch import Mapper

from .conftest import WRONG

distributed = pytest.importorskip(
    "distributed", reason="Dask is not installed: pip install .[engines]"
)
bag = pytest.importorskip("dask.bag", reason="Dask is not installed: pip install .[engines]")

pytestmark = pytest.mark.filterwarnings("default")
COUNT = 400
ROWS: List[Dict[str, Any]] = [
    {"id": number, "prompt": WRONG if number % 100 == 7 else f"p{number}"}
    for number in range(COUNT)
]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A cluster of two processes."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(processes=True, **settings) as started:
        with distributed.Client(started):
            yield


def check(found: Any) -> None:
    """Every row is there, in order, with its own answer or with its error."""
    assert [row["id"] for row in found] == list(range(COUNT))
    for row in found:
        if row["prompt"] == WRONG:
            assert row["text"] is None
            assert row["error"].startswith("BadRequestError: ")
        else:
            assert (row["text"], row["error"]) == (f"<{row['prompt']}>", None)


def test_a_bag(answering: Any) -> None:
    """The partitions of a bag come back in order, with failures as values."""
    mapper = Mapper(answering.base_url)
    check(bag.from_sequence(ROWS, npartitions=4).map_partitions(mapper).compute())
    assert sum(answering.asked.values()) == COUNT


def test_a_frame(answering: Any) -> None:
    """An empty frame through the mapper is the ``meta`` of Dask, and sends nothing."""
    pandas = pytest.importorskip("pandas")
    frames = pytest.importorskip("dask.dataframe", reason="dask[dataframe] is not installed")
    frame = frames.from_pandas(pandas.DataFrame(ROWS), npartitions=4)
    mapper = Mapper(answering.base_url, extra_outputs=["prompt_tokens"])
    mapped = frame.map_partitions(mapper, meta=mapper(frame._meta))
    assert sum(answering.asked.values()) == 0
    found = mapped.compute()
    check(found.astype(object).where(found.notna(), None).to_dict("records"))
    assert str(found["prompt_tokens"].dtype) == "Int64"
    assert sum(answering.asked.values()) == COUNT


def test_a_worker_that_is_killed(answering: Any) -> None:
    """When a worker is killed in mid-run, its rows are asked again, and none is lost."""
    killing = answering.kill_a_process(asked=30)
    mapper = Mapper(answering.base_url, max_concurrency=16)
    check(bag.from_sequence(ROWS, npartitions=4).map_partitions(mapper).compute())
    killing.result()
    # Some rows of the killed worker were asked twice: tasks run at least once.
    assert sum(answering.asked.values()) > COUNT
