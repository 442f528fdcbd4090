"""Multiple choice over a CSV file: accuracy, and what was taken for what."""

from __future__ import annotations

import io

import pandas as pd
from _server import connected

QUESTIONS = """\
question,A,B,C,answer
What is a token?,a piece of text,a kind of server,a metal,A
What does a server do?,it sleeps,it answers requests,it paints,B
What is a network made of?,of sand,of songs,of nodes,C
What does a model learn from?,from data,from rain,from tables of stone,A
"""
LABELS = ["A", "B", "C"]


def asked(row: pd.Series) -> str:
    """The prompt of a question, up to its answer."""
    options = "\n".join(f"{label}. {row[label]}" for label in LABELS)
    return f"{row['question']}\n{options}\nAnswer:"


frame = pd.read_csv(io.StringIO(QUESTIONS))  # Or the path of your file.
with connected() as client:
    # The space belongs to the option: at the end of the prompt it would be joined to the label.
    options = [f" {label}" for label in LABELS]
    choices = [client.evaluate.choose(asked(row), options) for _, row in frame.iterrows()]
frame["chosen"] = [LABELS[choice.index] for choice in choices]
frame["probability"] = [choice.probabilities[choice.index] for choice in choices]
print(frame[["question", "answer", "chosen", "probability"]].to_string())
print("accuracy:", (frame["answer"] == frame["chosen"]).mean())
print(pd.crosstab(frame["answer"], frame["chosen"]))
