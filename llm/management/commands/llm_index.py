"""`manage.py llm_index`: has documents indexed for search."""

from __future__ import annotations

import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand, CommandError

from llm.models import IndexJob
from llm.retrieval.embedding import embedding_model, why_no_model
from llm.retrieval.wishes import documents_want, index_job_create
from mlops import selectors
from mlops.bootstrap import ensure_schema
from mlops.models import User
from ocr.models import Document


class Command(BaseCommand):
    help = (
        "Has workers index documents that were read, for search by words and, with an embedding "
        "model, by meaning. What is indexed already and has not changed costs next to nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("documents", nargs="*", type=uuid.UUID, metavar="ID")
        parser.add_argument("--owner", default="", metavar="USER", help="of this user's only")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_schema()
        documents = Document.objects.order_by("created_at")
        if options["documents"]:
            documents = documents.filter(pk__in=options["documents"])
        if options["owner"]:
            owner = User.objects.filter(username=options["owner"]).first()
            if owner is None:
                raise CommandError(f"There is no user '{options['owner']}'.", returncode=2)
            documents = documents.filter(owner=owner)
        count = documents_want(documents.values_list("pk", flat=True))
        if not count:
            raise CommandError("None of these documents has been read yet.", returncode=1)
        job = index_job_create(owner=None)
        model = embedding_model()
        self.stderr.write(f"{count} documents wait to be indexed, by job {job.pk}.")
        self.stderr.write(f"Embedding model: {model.name}." if model else why_no_model())
        if not selectors.queues_seen([job.queue or IndexJob.QUEUE]):
            self.stderr.write(f"No worker of the queue {job.queue} has been seen lately.")
