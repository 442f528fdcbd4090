"""The responses of ``POST /v1/embeddings`` and ``POST /pooling``: vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, Optional

from attrs import define, field

from .._shown import Brief, Items, shown
from ._answer import ListAnswer
from ._vectors import Values, array_of, list_of, shape_of, stacked
from .shared import JSONValue, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Embedding", "EmbeddingResponse", "PoolingOutput", "PoolingResponse"]


@define
class _Item:
    _vector_name: ClassVar[str]

    index: int
    # Becomes a list only when somebody reads it, and the list is not kept: it takes eight times
    # the memory of the bytes, and filling that memory three times as long as making the list.
    _values: Values = field(repr=False, eq=list_of)

    def _shown_items(self) -> Items:
        yield "index", self.index
        yield self._vector_name, Brief(f"<{' × '.join(map(str, shape_of(self._values)))} numbers>")

    def to_numpy(self) -> NDArray[np.float32]:
        """The numbers as a new array of float32, made from the bytes of the response.

        Raises:
            ImportError: NumPy, the extra ``numpy``, is not installed.
        """
        return array_of(self._values)


@shown
@define
class Embedding(_Item):
    """The embedding of one input.

    Attributes:
        index: The place of the input in the request, from 0.
    """

    _vector_name = "embedding"

    @property
    def embedding(self) -> List[Any]:
        """The vector as a list of floats; from a model with a vector a token, a list of those.

        Each access makes a new list from the bytes of the response: keep it while you use it.
        """
        return list_of(self._values)


@shown
@define
class PoolingOutput(_Item):
    """What the model made of one input.

    Attributes:
        index: The place of the input in the request, from 0.
    """

    _vector_name = "data"

    @property
    def data(self) -> List[Any]:
        """A list of floats; for tasks with a vector a token, a list of those.

        Each access makes a new list from the bytes of the response: keep it while you use it.
        """
        return list_of(self._values)


class _VectorAnswer(ListAnswer):
    __slots__ = ()

    def to_dict(self) -> Dict[str, JSONValue]:
        """The response as plain dictionaries and lists, with the vectors as lists of floats."""
        answer: Any = self
        usage: Optional[Usage] = answer.usage
        return {
            **super().to_dict(),
            "data": [
                {"index": each.index, each._vector_name: list_of(each._values)}
                for each in answer.data
            ],
            "usage": None if usage is None else usage.to_dict(),
        }


@shown
@define
class EmbeddingResponse(_VectorAnswer):
    """The response of ``client.embeddings.create()``.

    Attributes:
        data: One embedding for each input, in the order of the inputs.
        model: The name of the model; empty with ``encoding_format="bytes_only"``.
        usage: The token counts; None with ``encoding_format="bytes_only"``.
        id: The id of the response; of the first one, if there were several requests.
        created: When the server answered, in seconds since 1970.
        raw: The decoded JSON as the server sent it. For ``bytes`` it is that of the header
            ``metadata``. If there were several requests, it is that of the first response.
    """

    data: List[Embedding]
    model: str
    usage: Optional[Usage]
    id: str = ""
    created: int = 0
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    def to_numpy(self) -> NDArray[np.float32]:
        """All embeddings as a new array of float32, one row for each input.

        Raises:
            ImportError: NumPy, the extra ``numpy``, is not installed.
            ValueError: The embeddings differ in shape; use ``data[i].to_numpy()``.
        """
        return stacked([each._values for each in self.data])


@shown
@define
class PoolingResponse(_VectorAnswer):
    """The response of ``client.pooling.create()``.

    Attributes:
        data: One output for each input, in the order of the inputs.
        model, usage, id, created, raw: As in :class:`EmbeddingResponse`.
    """

    data: List[PoolingOutput]
    model: str
    usage: Optional[Usage]
    id: str = ""
    created: int = 0
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    def to_numpy(self) -> NDArray[np.float32]:
        """All outputs as a new array of float32, one row for each input.

        Raises:
            ImportError: NumPy, the extra ``numpy``, is not installed.
            ValueError: The outputs differ in shape; use ``data[i].to_numpy()``.
        """
        return stacked([each._values for each in self.data])
