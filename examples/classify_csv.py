"""A label for each row of a CSV file, with pandas; one failed row does not end the run."""

from __future__ import annotations

import io

import pandas as pd
from _server import connected

REVIEWS = """\
product,review
lamp,It broke on the second day.
chair,"Comfortable, and it looks good."
desk,It is a desk.
kettle,The best kettle that I ever had!
"""
LABELS = ["positive", "negative", "neutral"]
QUESTION = f"Is this review {', '.join(LABELS)}? Answer with one word.\n\n"

frame = pd.read_csv(io.StringIO(REVIEWS))  # Or the path of your file.
with connected() as client:
    rows = client.batch.chat(
        (QUESTION + review for review in frame["review"]),
        structured_outputs={"choice": LABELS},
        temperature=0,
        max_tokens=16,
    )
    results = list(rows)
# Rows come in the order of the input, so they fit the frame.
frame["label"] = [row.text if row.ok else None for row in results]
frame["error"] = [str(row.error or "") for row in results]
print(frame[["product", "label", "error"]].to_string())
print(frame["label"].count(), "of", len(frame), "rows have a label")
