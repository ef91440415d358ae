"""The first user of an installation, with an API key: made once, kept for the console to show."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from mlops.models import ApiKey, User


@dataclass(frozen=True, slots=True)
class Credentials:
    username: str
    password: str
    api_key: str
    path: Path


def ensure_schema() -> None:
    """Brings an embedded database up to date; production migrates as a step of its own.

    Raises CommandError if there is no database to be reached.
    """
    try:
        connection.ensure_connection()
    except OperationalError as error:
        raise CommandError(f"The database can't be reached: {error} Check DATABASE_URL.") from error
    if settings.PRODUCTION:
        return
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", interactive=False, verbosity=0)


def first_user() -> Credentials:
    """Makes the superuser `admin` and a key, or reads what an earlier call made.

    Both stand in DATA_DIR/credentials, which only the owner can read. For the embedded setting;
    production makes its users with `createsuperuser`.
    """
    path = settings.DATA_DIR / "credentials"
    if path.exists():
        kept = dict(line.split("=", 1) for line in path.read_text().splitlines())
        if User.objects.filter(username=kept["username"]).exists():
            return Credentials(**kept, path=path)
    with transaction.atomic():
        user, _created = User.objects.get_or_create(
            username="admin", defaults={"is_staff": True, "is_superuser": True}
        )
        password = secrets.token_urlsafe(12)
        user.set_password(password)
        user.save(update_fields=["password"])
        _key, token = ApiKey.objects.create(user=user, name="first key")
        made = {"username": user.username, "password": password, "api_key": token}
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text("".join(f"{name}={value}\n" for name, value in made.items()))
    return Credentials(**made, path=path)
