from django.apps import AppConfig
from django.db.models.signals import post_migrate


class MlopsConfig(AppConfig):
    name = "mlops"
    verbose_name = "Platform"

    def ready(self) -> None:
        from mlops import checks  # noqa: F401  (registers them)
        from mlops.roles import sync_roles

        # Permissions are rows that migrate makes, so this is the first moment they can be given.
        post_migrate.connect(sync_roles, dispatch_uid="mlops.sync_roles")
