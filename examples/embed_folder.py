"""The embeddings of a folder of texts as a NumPy file, and beside it the names and failures."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Iterator, Tuple

import numpy as np
from _server import connected

from vllm_client import VllmClient, read_batch

TEXTS = {"cat": "A cat sleeps.", "dog": "A dog barks.", "sea": "The sea is deep.", "no": ""}


def texts(folder: Path) -> Iterator[Tuple[str, str]]:
    """The name and the text of each file; a file is read when there is room for it."""
    for path in sorted(folder.glob("*.txt")):
        yield path.name, path.read_text(encoding="utf-8")


def embed(client: VllmClient, folder: Path, output: Path) -> None:
    """Write ``output`` with a row for each text that has one, ``….names.json``, ``….failed.json``.

    The vectors are first collected in ``….jsonl``. Run again after an interruption: it goes on
    with what that file lacks. If a text has changed meanwhile, it raises BatchChangedError.
    """
    rows = output.with_suffix(".jsonl")
    client.batch.run(texts(folder), rows, route="embeddings", encoding_format="base64")
    names, vectors, failed = [], [], {}
    for row in read_batch(rows, ordered=True):
        if row.ok:
            names.append(row.custom_id)
            vectors.append(row.response.data[0].to_numpy())
        else:
            failed[row.custom_id] = str(row.error)
    np.save(output, np.array(vectors))
    output.with_suffix(".names.json").write_text(json.dumps(names), encoding="utf-8")
    output.with_suffix(".failed.json").write_text(json.dumps(failed), encoding="utf-8")


with connected() as client, tempfile.TemporaryDirectory() as temporary:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
    if len(sys.argv) < 2:
        for name, text in TEXTS.items():
            Path(folder, f"{name}.txt").write_text(text, encoding="utf-8")
    output = Path(sys.argv[2] if len(sys.argv) > 2 else Path(temporary, "vectors.npy"))
    embed(client, folder, output)
    print(np.load(output).shape)
    print("embedded:", *json.loads(output.with_suffix(".names.json").read_text(encoding="utf-8")))
    print("failed:", *json.loads(output.with_suffix(".failed.json").read_text(encoding="utf-8")))
