"""An answer for each row of a Dask DataFrame, on two worker processes of this machine."""

from __future__ import annotations

import dask.dataframe as dd  # pyright: ignore[reportMissingImports]
import pandas as pd
from _server import connected
from distributed import Client, LocalCluster  # pyright: ignore[reportMissingImports]

from vllm_client.batch import Mapper

QUESTIONS = [f"What is the number {number}?" for number in range(200)]


def main() -> None:
    """Ask, and print what came back."""
    questions = pd.DataFrame({"seed": range(len(QUESTIONS)), "question": QUESTIONS})
    workers = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with connected() as client, workers as cluster, Client(cluster):
        frame = dd.from_pandas(questions, npartitions=2)
        mapper = Mapper(
            client.base_url,
            prompt="question",
            output="answer",
            row_fields=["seed"],  # A row that is asked again has the same answer.
            max_tokens=8,
            max_concurrency=16,
        )
        # Without meta=, Dask would call the mapper with made-up rows to see what it returns.
        answers = frame.map_partitions(mapper, meta=mapper(frame._meta)).compute()
    print(answers[["seed", "answer"]].head(3).to_string())
    print(answers["error"].isna().sum(), "of", len(QUESTIONS), "rows have an answer")


if __name__ == "__main__":  # The worker processes import this file.
    main()
