"""The messages of a conversation, as plain dictionaries.

They are passed on untouched. A ``Message`` may be any dictionary, because vLLM hands roles and
parts it does not know to the model's chat template.
"""

from __future__ import annotations

from typing import Any, List, Literal, Mapping, Sequence, TypedDict, Union


class TextPart(TypedDict):
    """Text among other parts."""

    type: Literal["text"]
    text: str


class MediaURL(TypedDict, total=False):
    """Where media are: an ``http`` address the server can reach, or a ``data:`` URL."""

    url: str
    detail: str


class ImagePart(TypedDict):
    """An image; :func:`vllm_client.image_part` makes one."""

    type: Literal["image_url"]
    image_url: MediaURL


class AudioPart(TypedDict):
    """A recording; :func:`vllm_client.audio_part` makes one."""

    type: Literal["audio_url"]
    audio_url: MediaURL


class InputAudio(TypedDict):
    """Base64 of a recording, and its format: ``"wav"``, ``"mp3"``, …"""

    data: str
    format: str


class InputAudioPart(TypedDict):
    """A recording in OpenAI's words."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class VideoPart(TypedDict):
    """A video."""

    type: Literal["video_url"]
    video_url: MediaURL


ContentPart = Union[TextPart, ImagePart, AudioPart, InputAudioPart, VideoPart, Mapping[str, Any]]
"""A part of a message; those of special models as any dictionary."""

MessageContent = Union[str, Sequence[ContentPart]]


class SystemMessage(TypedDict):
    """How the model shall behave."""

    role: Literal["system", "developer"]
    content: MessageContent


class UserMessage(TypedDict):
    """What the user says."""

    role: Literal["user"]
    content: MessageContent


class FunctionCall(TypedDict):
    """The function of a call; ``arguments`` is JSON text."""

    name: str
    arguments: str


class ToolCallMessagePart(TypedDict):
    """A call in an assistant's message."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AssistantMessage(TypedDict, total=False):
    """What the model said; ``ChatCompletion.assistant_message()`` makes one."""

    role: str
    content: Union[str, Sequence[ContentPart], None]
    reasoning: str
    tool_calls: List[ToolCallMessagePart]


class ToolMessage(TypedDict):
    """A function's result; ``ToolCall.result()`` makes one."""

    role: Literal["tool"]
    tool_call_id: str
    content: MessageContent


Message = Union[SystemMessage, UserMessage, AssistantMessage, ToolMessage, Mapping[str, Any]]
"""A message of any role."""


class FunctionDefinition(TypedDict, total=False):
    """A function the model may call; ``parameters`` is a JSON schema.

    ``strict`` makes the server hold the arguments to the schema.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool


class Tool(TypedDict):
    """One of ``tools``."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(TypedDict):
    """The name of a function."""

    name: str


class NamedToolChoice(TypedDict):
    """``tool_choice`` that makes the model call one function."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Union[Literal["none", "auto", "required"], NamedToolChoice]
"""What ``tool_choice`` may be."""
