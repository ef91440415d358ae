from django.apps import AppConfig
from django.db.models.signals import post_migrate


class LlmConfig(AppConfig):
    name = "llm"
    verbose_name = "Language models"

    def ready(self) -> None:
        from llm.services.extraction_templates import templates_sync

        post_migrate.connect(templates_sync, sender=self, dispatch_uid="llm.templates_sync")
