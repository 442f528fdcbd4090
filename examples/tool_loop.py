"""Tools: call the functions that the model requests and return the results, until it answers."""

from __future__ import annotations

from typing import Callable, Dict, List

from _server import connected

from vllm_client import Message, Tool

WEATHER: Tool = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def get_weather(city: str) -> Dict[str, object]:
    return {"city": city, "degrees": 17}


FUNCTIONS: Dict[str, Callable[..., object]] = {"get_weather": get_weather}

with connected() as client:
    history: List[Message] = [{"role": "user", "content": "How is the weather in Oslo?"}]
    while True:
        answer = client.chat.completions.create(messages=history, tools=[WEATHER], max_tokens=80)
        history.append(answer.assistant_message())
        for call in answer.tool_calls:
            print(f"call: {call.name}({call.arguments})")
            history.append(call.result(FUNCTIONS[call.name](**call.parse_args())))
        if not answer.tool_calls:
            break
    print(f"answer: {answer.content}")
