"""A conversation: each request contains all earlier questions and answers."""

from __future__ import annotations

from typing import List

from _server import connected

from vllm_client import Message

QUESTIONS = ["What is a server?", "And what is a client?"]

with connected() as client:
    history: List[Message] = [{"role": "system", "content": "Answer in one sentence."}]
    for question in QUESTIONS:
        history.append({"role": "user", "content": question})
        answer = client.chat.completions.create(messages=history, max_tokens=40)
        history.append(answer.assistant_message())
        print(f"you: {question}\nmodel: {answer.content}\n")
