"""The vectors of passages in Qdrant: a folder of one worker, or a server. Only workers import this.

The library is imported when a store is made, so that settings can be checked without it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from llm.retrieval.stores import Point
from mlops.exceptions import EngineUnavailable, NotInstalled

# Points sent to a server at once.
BATCH = 256


class QdrantStore:
    """Safe from several threads. A folder may be open in one process at a time.

    Raises EngineUnavailable where the folder is taken or the server is away.
    """

    def __init__(self, *, url: str = "", api_key: str = "", path: str = "") -> None:
        try:
            import qdrant_client
        except ImportError as error:
            raise NotInstalled(
                "Vectors need Qdrant's client. Install it: pip install -r requirements/llm.txt"
            ) from error
        self._models = qdrant_client.models
        self._errors: tuple[type[Exception], ...] = (
            qdrant_client.http.exceptions.ApiException,
            OSError,
        )
        # A server has its own order of things; the folder's client is not made for threads.
        self._lock: AbstractContextManager[Any] = nullcontext() if url else threading.RLock()
        self.device = url or f"folder {path}"
        self._known: set[str] = set()
        if url:
            self._client = qdrant_client.QdrantClient(
                url=url, api_key=api_key or None, check_compatibility=False
            )
            self._collections()
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._client = qdrant_client.QdrantClient(
                path=path, force_disable_check_same_thread=True
            )
        except RuntimeError as error:
            raise EngineUnavailable(
                f"The vectors in {path} are open in another process. Run one worker of the queue "
                "llm, or set QDRANT_URL to a server that all of them share."
            ) from error

    def put(self, collection: str, points: Sequence[Point]) -> None:
        """Writes the points, in place of those with the same ids; makes the collection if new."""
        if not points:
            return
        with self._guarded():
            self._ensure(collection, len(points[0].vector))
            for start in range(0, len(points), BATCH):
                batch = [self._struct(point) for point in points[start : start + BATCH]]
                self._client.upsert(collection, batch)

    def keep(self, collection: str, document: uuid.UUID, ids: Sequence[uuid.UUID]) -> None:
        """Removes the document's other points from the collection."""
        with self._guarded():
            if not self._exists(collection):
                return
            others = self._models.HasIdCondition(has_id=[str(one) for one in ids])
            of_document = self._equals("document", str(document))
            self._client.delete(
                collection, self._models.Filter(must=[of_document], must_not=[others])
            )

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
        wanted = []
        if owner is not None:
            wanted.append(self._equals("owner", owner))
        if documents is not None:
            match = self._models.MatchAny(any=list(documents))
            wanted.append(self._models.FieldCondition(key="document", match=match))
        with self._guarded():
            if not self._exists(collection):
                return []
            found = self._client.query_points(
                collection,
                query=list(vector),
                query_filter=self._models.Filter(must=wanted),
                limit=limit,
                with_payload=False,
            )
        return [(str(uuid.UUID(str(point.id))), float(point.score)) for point in found.points]

    def close(self) -> None:
        with self._lock:
            self._client.close()

    # -- parts --------------------------------------------------------------------------------

    def _guarded(self) -> AbstractContextManager[Any]:
        return _Guard(self._lock, self._errors, self.device)

    def _collections(self) -> None:
        with self._guarded():
            found = self._client.get_collections().collections
            self._known = {collection.name for collection in found}

    def _exists(self, collection: str) -> bool:
        if collection in self._known or self._client.collection_exists(collection):
            self._known.add(collection)
            return True
        return False

    def _ensure(self, collection: str, dimension: int) -> None:
        if self._exists(collection):
            return
        cosine = self._models.VectorParams(size=dimension, distance=self._models.Distance.COSINE)
        self._client.create_collection(collection, vectors_config=cosine)
        if self.device.startswith("http"):
            # Without an index a server's filter looks at every point.
            for field in ("owner", "document"):
                kind = "integer" if field == "owner" else "keyword"
                self._client.create_payload_index(collection, field, field_schema=kind)
        self._known.add(collection)

    def _struct(self, point: Point) -> Any:
        return self._models.PointStruct(
            id=str(point.id),
            vector=list(point.vector),
            payload={"owner": point.owner, "document": str(point.document)},
        )

    def _equals(self, field: str, value: str | int) -> Any:
        match = self._models.MatchValue(value=value)
        return self._models.FieldCondition(key=field, match=match)


class _Guard:
    """The store's lock, and its library's errors as ours."""

    def __init__(
        self, lock: AbstractContextManager[Any], errors: tuple[type[Exception], ...], device: str
    ) -> None:
        self._lock, self._errors, self._device = lock, errors, device

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._lock.__exit__(kind, error, traceback)
        if isinstance(error, self._errors):
            raise EngineUnavailable(
                f"Qdrant at {self._device} did not answer: {error}. Check QDRANT_URL and "
                "QDRANT_API_KEY."
            ) from error
