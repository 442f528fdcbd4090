"""Translate the lines of a JSONL file into another file; a run that was cut off goes on."""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any, Iterator, Optional, Tuple

from _server import connected

from vllm_client import BatchReport, VllmClient, read_batch

SENTENCES = ["Good morning.", "The train is late.", "Where is the station?", "Thank you.", "Bye!"]
ASK = "Translate into French. Answer with the translation only.\n\n"


def rows(source: Path) -> Iterator[Tuple[str, str]]:
    """Each line's id and what is asked; the file is read while the run goes on."""
    with source.open(encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            yield item["id"], ASK + item["en"]


def translate(
    client: VllmClient, source: Path, output: Path, most: Optional[int] = None
) -> BatchReport:
    """Send the rows that the output lacks."""
    some = itertools.islice(rows(source), most)
    settings: Any = {"route": "chat", "max_tokens": 40, "temperature": 0}
    return client.batch.run(some, output, **settings)


with connected() as client, tempfile.TemporaryDirectory() as folder:
    source, output = Path(folder, "english.jsonl"), Path(folder, "french.jsonl")
    lines = [json.dumps({"id": f"s{n}", "en": text}) for n, text in enumerate(SENTENCES)]
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")

    first = translate(client, source, output, most=2)  # As if the program had been killed here.
    print(f"first run: {first.done} done")
    report = translate(client, source, output)
    print(f"second run: {report.done} done, {report.skipped} of them before")

    for row in read_batch(output, ordered=True):
        print(row.custom_id, repr(row.text) if row.ok else row.error)
