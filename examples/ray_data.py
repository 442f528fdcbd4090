"""An answer for each row of a Ray data set; rows keep their order, failures are values."""

from __future__ import annotations

import ray  # pyright: ignore[reportMissingImports]
from _server import connected

from vllm_client.batch import Mapper

QUESTIONS = [f"What is the number {number}?" for number in range(200)]

ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
context = ray.data.DataContext.get_current()
context.enable_progress_bars = False
context.execution_options.preserve_order = True

with connected() as client:
    questions = ray.data.from_items([{"id": n, "question": q} for n, q in enumerate(QUESTIONS)])
    answers = questions.map_batches(
        Mapper,
        fn_constructor_kwargs={
            "base_url": client.base_url,
            "prompt": "question",
            "output": "answer",
            "max_tokens": 8,
            "row_fields": {"seed": "id"},  # A row that is asked again has the same answer.
            "max_concurrency": 16,
        },
        concurrency=2,  # Two actors: at most 32 requests in flight.
        num_cpus=0.25,  # They wait for the server most of the time.
        batch_size=100,
        batch_format="pyarrow",
    )
    rows = answers.take_all()

for row in rows[:3]:
    print(row["id"], repr(row["answer"]))
print(sum(row["error"] is None for row in rows), "of", len(QUESTIONS), "rows have an answer")
ray.shutdown()
