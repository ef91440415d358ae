"""gunicorn's settings for the web process: ASGI workers, numbers from the environment."""

import os

from django.core.management import call_command

wsgi_app = "mlops.asgi:application"
worker_class = "uvicorn_worker.UvicornWorker"
bind = os.environ.get("BIND", "127.0.0.1:8010")
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
# A request that waits for a result is async and costs no worker, so a worker that is silent for
# this long is stuck.
timeout = 120
graceful_timeout = 30
keepalive = 5
max_requests = int(os.environ.get("WEB_MAX_REQUESTS", "0"))
max_requests_jitter = max_requests // 10
accesslog = None  # django-structlog logs each request with its id and user
errorlog = "-"
control_socket_disable = True


def on_starting(server) -> None:
    """Refuses to serve on settings that `manage.py check` refuses."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops.settings")
    django.setup()
    call_command("check")
