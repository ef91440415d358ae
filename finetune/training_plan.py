"""A training as a file says it: YAML with a name, a method, a base, a dataset and options."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import yaml

from finetune.dataset_import import version_make
from finetune.intake import IntakeOptions
from finetune.models import Dataset, DatasetVersion
from finetune.reading import open_source
from finetune.services.datasets import (
    dataset_forget_empty,
    dataset_named,
    import_options,
    version_delete,
)
from finetune.splits import Shares
from llm.models import LanguageModel
from llm.services.models import model_save
from mlops.exceptions import ApplicationError
from mlops.models import User


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What the file holds. `base`: a language model's name, or a folder or hub name that is made
    one. `dataset`, `validation`: name, name@number, or a file that is imported first, with the
    options in `import`. Paths begin where the file lies.
    """

    name: str
    method: str
    dataset: str
    base: str = ""
    validation: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    importing: dict[str, Any] = field(default_factory=dict)
    serve: bool = True
    folder: Path = Path()

    @classmethod
    def read(cls, path: Path, *, changes: Sequence[str] = ()) -> Self:
        """`changes`: option=value each. Raises ApplicationError."""
        try:
            given = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise _wrong(f"{path} can't be read: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise _wrong(f"{path} is no YAML: {error}") from error
        if not isinstance(given, dict):
            raise _wrong(f"{path} holds no settings: give name, method, base, dataset, options")
        given = {str(name): value for name, value in given.items() if value is not None}
        given["importing"] = given.pop("import", {})
        known = {one.name for one in fields(cls)} - {"folder"}
        if unknown := sorted(set(given) - known):
            shown = ", ".join(sorted(known - {"importing"} | {"import"}))
            raise _wrong(f"there is no setting '{unknown[0]}'; there are {shown}")
        for name in ("name", "method", "dataset"):
            if not given.get(name):
                raise _wrong(f"'{name}' is missing")
        options = dict(given.get("options", {}))
        for change in changes:
            name, equals, value = change.partition("=")
            if not equals:
                raise _wrong(f"--set takes option=value, not '{change}'")
            options[name.strip()] = yaml.safe_load(value)
        texts = {name: str(given[name]) for name in given if name not in _OTHERS}
        others = {name: given[name] for name in _OTHERS if name in given}
        return cls(**texts, **others | {"options": options}, folder=path.parent)


_OTHERS = ("options", "importing", "serve")


def base_of(plan: TrainingPlan) -> LanguageModel | None:
    """The model of that name; a folder or hub name becomes one. Raises ApplicationError."""
    if not plan.base:
        return None
    found = LanguageModel.objects.select_related("base").filter(name=plan.base).first()
    if found is not None:
        return found
    folder = (plan.folder / Path(plan.base).expanduser()).resolve()
    if not folder.is_dir() and plan.base.count("/") != 1:
        raise ApplicationError(
            f"base: there is no language model '{plan.base}', and no folder of that name. Add it "
            "in the console, or give a folder, or org/name of a hub.",
            code="model_not_found",
            param="base",
        )
    source = str(folder) if folder.is_dir() else plan.base
    known = LanguageModel.objects.filter(source=source, base=None).first()
    name = folder.name if folder.is_dir() else plan.base
    return known or model_save(model=LanguageModel(), name=name, source=source)


def version_named(text: str, *, owner: User | None) -> DatasetVersion | None:
    """The version `name` or `name@number`, of the owner's datasets first; None if there is none."""
    name, _at, number = text.rpartition("@")
    if not name or not number.isdecimal():
        name, number = text, ""
    named = list(Dataset.objects.filter(name=name).order_by("created_at"))
    mine = [one for one in named if one.owner_id == (owner.pk if owner else None)]
    for dataset in (*mine, *(named if owner is None or owner.sees_all else ())):
        versions = dataset.versions.select_related("dataset").order_by("-number")
        found = versions.filter(number=int(number)).first() if number else versions.first()
        if found is not None:
            return found
    return None


def version_of(plan: TrainingPlan, text: str, *, owner: User | None) -> DatasetVersion:
    """The version that is named, or that a file is imported as. Raises ApplicationError."""
    path = (plan.folder / Path(text).expanduser()).resolve()
    if path.exists():
        return _imported(plan, path, owner)
    found = version_named(text, owner=owner)
    if found is None:
        raise ApplicationError(
            f"There is no dataset '{text}' and no file {path}.", code="not_found", param="dataset"
        )
    return found


def _imported(plan: TrainingPlan, path: Path, owner: User | None) -> DatasetVersion:
    """The file as the next version of a dataset of its name; unchanged, it is the last one."""
    given = dict(plan.importing)
    name = str(given.pop("name", path.stem))
    try:
        options = import_options(**given)
    except TypeError as error:
        raise _wrong(f"import: {error}") from error
    dataset = dataset_named(owner=owner, name=name)
    last = dataset.versions.order_by("-number").first()
    seed = options["seed"] if options["seed"] is not None else (last.seed if last else 0)
    try:
        with tempfile.TemporaryDirectory() as folder:
            version = version_make(
                dataset=dataset,
                source=open_source(path),
                source_name=path.name,
                options=IntakeOptions(
                    format=options["format"],
                    group_by=options["group_by"],
                    seed=seed,
                    shares=Shares(options["validation"], options["test"]),
                    max_tokens=options["max_tokens"],
                    tokenizer=options["tokenizer"],
                ),
                folder=Path(folder),
                drop_bad_rows=options["drop_bad_rows"],
                dropped_by=owner,
                licence=options["licence"],
                tick=lambda done, total, rows: None,
            )
    finally:
        dataset_forget_empty(dataset=dataset)
    same = ("sha256", "seed", "shares", "split_counts", "state")
    if last is not None and all(getattr(last, one) == getattr(version, one) for one in same):
        version_delete(version=version)
        return last
    # With what the import has found out about the dataset.
    return DatasetVersion.objects.select_related("dataset").get(pk=version.pk)


def _wrong(what: str) -> ApplicationError:
    return ApplicationError(f"{what}.", code="invalid_config")
