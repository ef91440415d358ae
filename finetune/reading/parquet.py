"""Rows of Parquet, in batches, so that a file larger than the memory can be read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from finetune.reading.base import Record
from finetune.reading.byte_streams import CHUNK, Bytes
from mlops.exceptions import ApplicationError

BATCH = 500


def parquet_rows(
    path: Path | None, stream: Bytes, head: bytes, told: Callable[[float], None]
) -> Iterator[Record]:
    """`line` is the number of the row; `told` hears which share of the rows has been read.

    What is packed, or in a zip, is unpacked to disk first: the format is read from its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        if path is None or stream.packing:
            path = Path(folder) / "rows.parquet"
            with path.open("wb") as target:
                target.write(head)
                shutil.copyfileobj(cast(IO[bytes], stream), target, CHUNK)
        yield from _rows(path, told)


def _rows(path: Path, told: Callable[[float], None]) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number, total = 0, file.metadata.num_rows
            for batch in file.iter_batches(batch_size=BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(number, _without_empty(row))
                told(number / total)
    except pa.ArrowException as error:
        raise ApplicationError(
            f"The Parquet file can't be read: {error}", code="broken_parquet", param="file"
        ) from error


def _without_empty(value: Any) -> Any:
    """Fields without a value are left out: Parquet gives every struct the fields of all."""
    if isinstance(value, dict):
        return {name: _without_empty(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_empty(one) for one in value]
    return value
