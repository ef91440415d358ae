"""What a store of vectors is; this worker's own one is named in ENGINES["vectors"]."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mlops import engines

STORE = "qdrant"


@dataclass(frozen=True, slots=True)
class Point:
    """A vector of unit length, with what it may be found by; `owner` None is nobody's."""

    id: uuid.UUID
    vector: Sequence[float]
    owner: int | None
    document: uuid.UUID


class VectorStore(Protocol):
    """Safe from several threads; everything raises EngineUnavailable where it can't be reached."""

    device: str

    def put(self, collection: str, points: Sequence[Point]) -> None:
        """Writes the points, in place of those with the same ids; makes the collection if new."""
        ...

    def keep(self, collection: str, document: uuid.UUID, ids: Sequence[uuid.UUID]) -> None:
        """Removes the document's other points from the collection."""
        ...

    def search(
        self,
        collection: str,
        vector: Sequence[float],
        *,
        owner: int | None,
        documents: Sequence[str] | None,
        limit: int,
    ) -> list[tuple[str, float]]:
        """(id, cosine) of the nearest points, best first.

        `owner` None searches everybody's, `documents` None all of them.
        """
        ...

    def close(self) -> None: ...


def store() -> VectorStore:
    """This process's store, opened at the first call. Raises EngineUnavailable."""
    return engines.cache("vectors").get(STORE)
