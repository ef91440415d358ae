"""Rows of a dataset on a hub, read over the network as they are needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune.reading.base import Record, split_named
from mlops.exceptions import ApplicationError, JobFailed, NotInstalled

PREFIX = "hub:"
NAME = re.compile(
    r"hub:(?P<name>\w[\w.-]*/\w[\w.-]*)(?::(?P<config>[\w.-]+))?(?:@(?P<at>[\w./-]+))?"
)


def is_hub_name(text: str) -> bool:
    return text.startswith(PREFIX)


class HubSource:
    """`hub:org/name`, `hub:org/name:config`, `hub:org/name@revision`; all of its splits.

    Raises ApplicationError for what is no such name.
    """

    def __init__(self, text: str) -> None:
        match = NAME.fullmatch(text)
        # What the library finds under a name on this machine, it reads from there.
        if match is None or Path(match["name"]).exists():
            raise ApplicationError(
                f"'{text}' is no name on a hub; write hub:org/name, with :config or @revision "
                "behind it where they are needed.",
                code="bad_hub_name",
                param="hub",
            )
        self.container, self.notes = "hub", []
        self._name, self._config, self._revision = match["name"], match["config"], match["at"]

    def progress(self) -> tuple[int, int]:
        return 0, 0

    def records(self) -> Iterator[Record]:
        try:
            from datasets import load_dataset
            from datasets.exceptions import DatasetsError
        except ImportError as error:
            raise NotInstalled(
                f"{error}. Install it: pip install -r requirements/finetune.txt"
            ) from error
        number = 0
        try:
            splits = load_dataset(self._name, self._config, revision=self._revision, streaming=True)
            for name, rows in splits.items():
                for row in rows:
                    number += 1
                    yield Record(number, _plain(row), split_named(name.partition("[")[0]))
        except (DatasetsError, OSError, ValueError) as error:
            # ValueError: no such configuration. The hub's client raises kinds of OSError.
            raise JobFailed(
                f"'{self._name}' can't be read from the hub: {error}. Without a network, get the "
                "dataset elsewhere and upload it as Parquet or JSONL.",
                code="hub_unreachable",
            ) from error


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Fields without a value are left out, as in Parquet."""
    return {name: value for name, value in row.items() if value is not None}
