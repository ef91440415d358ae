"""The web application: `gunicorn mlops.asgi:application` (see gunicorn.conf.py)."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops.settings")
django_application = get_asgi_application()

from mlops.uploads import BodyLimit  # noqa: E402  (needs settings)

application = BodyLimit(django_application)
