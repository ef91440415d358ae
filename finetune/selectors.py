"""Reads: rows of datasets and what changed between versions, and what can be trained on what."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db.models import QuerySet

from finetune.content.facts import SPLITS, only_in
from finetune.content.reader import ContentReader, found_in, searched
from finetune.engines.configs import KINDS
from finetune.formats.base import Row
from finetune.formats.kinds import texts_of
from finetune.models import Dataset, DatasetVersion, ModelVersion
from finetune.splits import split_names
from finetune.version_files import ENCODED, numbers_of, split_rows, splits_of
from llm.models import AliasTarget, LanguageModel
from llm.selectors import name_find
from mlops.exceptions import ApplicationError
from mlops.models import User

# So many rows are looked through for a word in one request: about two seconds' worth of text.
SCANNED = 250_000
# Of these so many are parsed: the names of fields would match in every row.
PARSED = 20_000
LEFT_OUT = "left out"
# As many rows of each side as a comparison shows.
SHOWN = 50


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One row as people see it; `line` is where it stood in the source."""

    number: int
    line: int
    split: str
    row: Row


@dataclass(frozen=True, slots=True)
class RowsPage:
    """`total` is None for a search, which goes on at row `next` if that isn't None."""

    rows: list[ShownRow]
    total: int | None
    next: int | None


def check_split(split: str) -> str:
    """Raises ApplicationError for what is no split."""
    if split and split not in SPLITS:
        raise ApplicationError(
            f"split: one of {', '.join(SPLITS)}.", code="unknown_choice", param="split"
        )
    return split


def rows_page(version: DatasetVersion, *, split: str, page: int, size: int) -> RowsPage:
    """Page `page` (from 1) of the rows of a split, or of all."""
    start = (page - 1) * size
    if not split and version.rows == version.stored_rows:
        numbers = range(start, min(start + size, version.rows))
        return RowsPage(_shown(version, list(numbers)), version.rows, None)
    every = split_rows(version, split)
    return RowsPage(_shown(version, every[start : start + size]), len(every), None)


def rows_search(
    version: DatasetVersion, words: str, *, split: str, start: int, size: int
) -> RowsPage:
    """Rows from number `start` on that hold the words, as far as one request goes."""
    splits, kind = splits_of(version), version.dataset.kind
    allowed = {SPLITS[split]} if split else set(SPLITS.values())
    reader = ContentReader(version.sha256)
    found: list[tuple[int, Row]] = []
    after = start + SCANNED
    looked_at = searched(reader, words, start=start, most=SCANNED)
    for parsed, (number, row) in enumerate(looked_at, 1):
        if splits[number] in allowed and found_in(texts_of(kind, row), words):
            found.append((number, row))
        if len(found) == size or parsed == PARSED:
            after = number + 1
            break
    return RowsPage(
        _shown(version, [number for number, _row in found], dict(found)),
        None,
        after if after < len(reader) else None,
    )


def row_of(version: DatasetVersion, number: int) -> ShownRow:
    """Raises ApplicationError where there is no such row."""
    return _shown(version, [number], {number: ContentReader(version.sha256).row(number)})[0]


def _shown(
    version: DatasetVersion, numbers: list[int], rows: dict[int, Row] | None = None
) -> list[ShownRow]:
    if not numbers:
        return []
    rows = ContentReader(version.sha256).rows(numbers) if rows is None else rows
    splits, lines = splits_of(version), numbers_of(version, "lines", "I")
    names = split_names()
    return [
        ShownRow(n, lines[n], names.get(splits[n], LEFT_OUT), rows[n]) for n in numbers if n in rows
    ]


def without_picture(row: Row) -> dict[str, Any]:
    """The row without what only a picture's address is good for."""
    return {name: value for name, value in row.items() if name != ENCODED}


def versions_diff(old: DatasetVersion, new: DatasetVersion) -> dict[str, Any]:
    """How many rows the newer has more and less, the first of them, and what the splits hold.

    A row that was changed is one less and one more.
    """
    before, after = (numbers_of(version, "hashes", "Q") for version in (old, new))
    removed, removed_rows = _count(only_in(before, after), old)
    added, added_rows = _count(only_in(after, before), new)
    return {
        "from": old.number,
        "to": new.number,
        "added": added,
        "removed": removed,
        "unchanged": len(after) - added,
        "added_rows": added_rows,
        "removed_rows": removed_rows,
    }


def _count(places: Iterator[int], version: DatasetVersion) -> tuple[int, list[ShownRow]]:
    first = list(islice(places, SHOWN))
    count = len(first) + sum(1 for _place in places)
    order = numbers_of(version, "order", "I") if first else []
    return count, _shown(version, sorted(order[place] for place in first))


def dataset_version_find(
    user: User, dataset: str, number: str = "latest", *, param: str = "dataset"
) -> DatasetVersion:
    """A version by its dataset's id or name, one's own first. Raises ApplicationError (404)."""
    seen = Dataset.objects.visible_to(user)
    try:
        found = seen.filter(pk=uuid.UUID(dataset)).first()
    except ValueError:
        named = list(seen.filter(name=dataset).order_by("created_at"))
        found = next((one for one in named if one.owner_id == user.pk), None)
        found = found or next(iter(named), None)
    versions = DatasetVersion.objects.filter(dataset=found).order_by("-number")
    if str(number) != "latest":
        versions = versions.filter(number=int(number) if str(number).isdecimal() else 0)
    version = versions.select_related("dataset").first()
    if version is None:
        what = "has no version" if str(number) == "latest" else f"has no version {number}"
        raise ApplicationError(
            f"'{dataset}' {what}." if found else f"There is no dataset '{dataset}'.",
            code="not_found",
            status=404,
            param=param,
        )
    return version


def training_base_find(name: str, *, param: str = "base") -> LanguageModel:
    """A model by its name, or by an alias that stands for it alone. Raises ApplicationError."""
    try:
        found = name_find(name)
    except ApplicationError as error:
        raise ApplicationError(
            error.message, code=error.code, status=error.status, param=param
        ) from error
    if isinstance(found, LanguageModel):
        return found
    targets = list(found.targets.select_related("model__base"))
    if len(targets) != 1:
        raise ApplicationError(
            f"'{name}' stands for several models: {', '.join(str(t.model) for t in targets)}. "
            "Name one of them.",
            code="ambiguous_model",
            param=param,
        )
    return targets[0].model


def training_bases() -> QuerySet[LanguageModel]:
    """What a training can begin with: models that run here, and are no adapters."""
    return LanguageModel.objects.callable().filter(
        base=None, engine="transformers", task=LanguageModel.Task.GENERATE
    )


def trainable_versions(user: User, method: str) -> QuerySet[DatasetVersion]:
    """The versions that a method can learn from, newest first."""
    versions = DatasetVersion.objects.visible_to(user).trainable()
    versions = versions.filter(dataset__kind__in=KINDS[method]).select_related("dataset")
    return versions.defer("report", "pins").order_by("-created_at")


def may_promote(user: User, version: ModelVersion) -> bool:
    """Whether the user may turn requests to the version's name towards it.

    Of one's own version only as long as its name stands for nothing that is another's.
    """
    if user.has_perm("finetune.change_modelversion"):
        return True
    behind = LanguageModel.objects.filter(
        pk__in=AliasTarget.objects.filter(alias__name=version.name).values("model")
    )
    own = ModelVersion.objects.filter(owner=user).exclude(language_model=None)
    others = behind.exclude(pk__in=own.values("language_model"))
    return version.owner_id == user.pk and not others.exists()
