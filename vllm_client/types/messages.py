"""The messages of a conversation, as plain dictionaries.

The client sends them unchanged. A ``Message`` may be any dictionary, because vLLM passes unknown
roles and parts to the model's chat template.
"""

from __future__ import annotations

from typing import List, Literal, Protocol, Sequence, TypedDict, Union

from .shared import JSONObject

__all__ = [
    "AssistantMessage",
    "AudioPart",
    "ContentPart",
    "FunctionCall",
    "FunctionDefinition",
    "FunctionName",
    "ImagePart",
    "InputAudio",
    "InputAudioPart",
    "MediaURL",
    "Message",
    "MessageContent",
    "NamedToolChoice",
    "SystemMessage",
    "TextPart",
    "Tool",
    "ToolCallMessagePart",
    "ToolChoice",
    "ToolMessage",
    "UserMessage",
    "VideoPart",
]


class TextPart(TypedDict):
    """A text in a message that also has other parts."""

    type: Literal["text"]
    text: str


class MediaURL(TypedDict, total=False):
    """Location of a media file: an ``http`` URL that the server can reach, or a ``data:`` URL."""

    url: str
    detail: str


class ImagePart(TypedDict):
    """An image. :func:`vllm_client.image_part` creates this part."""

    type: Literal["image_url"]
    image_url: MediaURL


class AudioPart(TypedDict):
    """A recording. :func:`vllm_client.audio_part` creates this part."""

    type: Literal["audio_url"]
    audio_url: MediaURL


class InputAudio(TypedDict):
    """A recording in Base64, and its format: ``"wav"``, ``"mp3"``, …"""

    data: str
    format: str


class InputAudioPart(TypedDict):
    """A recording in OpenAI's format."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class VideoPart(TypedDict):
    """A video."""

    type: Literal["video_url"]
    video_url: MediaURL


ContentPart = Union[TextPart, ImagePart, AudioPart, InputAudioPart, VideoPart, JSONObject]
"""A part of a message. It may be any dictionary, for models with parts of their own."""

MessageContent = Union[str, Sequence[ContentPart]]
"""The content of a message: a text, or a list of parts."""


class SystemMessage(TypedDict):
    """Instructions for the model."""

    role: Literal["system", "developer"]
    content: MessageContent


class UserMessage(TypedDict):
    """A message of the user."""

    role: Literal["user"]
    content: MessageContent


class FunctionCall(TypedDict):
    """The name and arguments of a tool call. ``arguments`` is JSON text."""

    name: str
    arguments: str


class ToolCallMessagePart(TypedDict):
    """A tool call in a message of the assistant."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AssistantMessage(TypedDict, total=False):
    """A message of the model. ``ChatCompletion.assistant_message()`` creates it."""

    role: str
    content: Union[str, Sequence[ContentPart], None]
    reasoning: str
    tool_calls: List[ToolCallMessagePart]


class ToolMessage(TypedDict):
    """The result of a tool call. ``ToolCall.result()`` creates this message."""

    role: Literal["tool"]
    tool_call_id: str
    content: MessageContent


class _ReceivedMessage(Protocol):
    """The ``message`` of a response, which is sent as ``to_dict()`` returns it."""

    role: str

    def to_dict(self, *, reasoning: bool = ...) -> AssistantMessage:
        raise NotImplementedError


Message = Union[
    SystemMessage, UserMessage, AssistantMessage, ToolMessage, _ReceivedMessage, JSONObject
]
"""A message of any role; the ``message`` of a response is one too."""


class FunctionDefinition(TypedDict, total=False):
    """A function that the model may call. ``parameters`` is a JSON schema.

    With ``strict`` the server constrains the arguments to the schema.
    """

    name: str
    description: str
    parameters: JSONObject
    strict: bool


class Tool(TypedDict):
    """An item of ``tools``."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(TypedDict):
    """The name of a function."""

    name: str


class NamedToolChoice(TypedDict):
    """A ``tool_choice`` that forces the model to call this function."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Union[Literal["none", "auto", "required"], NamedToolChoice]
"""The value of ``tool_choice``."""
