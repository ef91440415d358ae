"""The signing key of an installation that has none in its environment."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def embedded_secret_key(folder: Path) -> str:
    """Random, made once, kept in `folder` and readable by its owner alone.

    Production takes its key from the environment instead, since web and workers run on several
    machines; the system check `mlops.E001` holds it to that.
    """
    path = folder / "secret_key"
    if not path.exists():
        part = folder / f".secret_key.{os.getpid()}"
        part.touch(mode=0o600)
        part.write_text(secrets.token_urlsafe(64))
        # Linked, not renamed: of two processes that start at once the first one's key stays.
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    return path.read_text().strip()
