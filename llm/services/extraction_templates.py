"""Writes of extraction templates."""

from __future__ import annotations

from typing import Any

from django.apps import apps as all_apps

from llm.extraction.fields import schema_check
from llm.extraction.templates import BUILT_IN
from llm.models import ExtractionTemplate
from mlops.exceptions import ApplicationError, NotAllowed


def template_save(*, template: ExtractionTemplate) -> ExtractionTemplate:
    """Raises ApplicationError for what is no schema, odd examples, and a name that is taken."""
    schema_check(template.schema)
    examples_check(template.examples)
    same = ExtractionTemplate.objects.filter(name=template.name, owner=template.owner)
    if same.exclude(pk=template.pk).exists():
        raise NotAllowed(
            f"There is a template '{template.name}' already. Choose another name, or change that.",
            code="name_taken",
        )
    if template.built_in:
        raise NotAllowed("Built-in templates can't be changed; save it under another name.")
    template.save()
    return template


def examples_check(examples: Any) -> None:
    """Raises ApplicationError unless each is {"text": …, "values": {…}}."""
    fine = isinstance(examples, list) and all(
        isinstance(one, dict)
        and isinstance(one.get("text"), str)
        and isinstance(one.get("values"), dict)
        for one in examples
    )
    if not fine:
        raise ApplicationError(
            'Examples are a list of {"text": "…", "values": {…}}.',
            code="invalid_examples",
            param="examples",
        )


def templates_sync(*, apps: Any = all_apps, **_: Any) -> None:
    """Writes the built-in templates as this version has them. Connected to post_migrate.

    `apps` are the models as migrated so far: before the templates' own migration there are none.
    """
    try:
        apps.get_model("llm", "ExtractionTemplate")
    except LookupError:
        return
    for one in BUILT_IN:
        ExtractionTemplate.objects.update_or_create(
            name=one.name,
            owner=None,
            defaults={
                "title": one.title,
                "schema": one.schema,
                "instructions": one.instructions,
                "built_in": True,
            },
        )
