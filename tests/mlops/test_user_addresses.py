"""URLS=user: the public port has the APIs, and nothing of the console."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tests.mlops.test_settings import settings_value


def addresses(resolver: URLResolver, before: str = "") -> Iterator[tuple[str, str]]:
    """Every address with the module of its view."""
    for one in resolver.url_patterns:
        address = before + str(one.pattern)
        if isinstance(one, URLPattern):
            yield address, one.callback.__module__
        else:
            yield from addresses(one, address)


def test_no_address_belongs_to_the_console() -> None:
    public = dict(addresses(get_resolver("mlops.urls_user")))
    everything = dict(addresses(get_resolver("mlops.urls")))
    assert {name for name in everything if name.startswith("admin/")}
    for address, module in public.items():
        assert "admin" not in address and "admin" not in module.split("."), address
    # All that is missing is the console's (its pages, its log-in, the way to it) and metrics.
    missing = everything.keys() - public.keys()
    assert {name.partition("/")[0] for name in missing} == {"", "admin", "api", "metrics"}
    assert {name for name in missing if name.startswith("api")} == {
        "api/auth/login/",
        "api/auth/logout/",
    }


@pytest.mark.django_db
def test_the_public_port(settings, client: Client, admin_client: Client) -> None:
    settings.ROOT_URLCONF = "mlops.urls_user"
    assert client.get("/health").status_code == 200
    assert client.get("/api/v1/documents/").status_code == 401
    for address in ("/", "/admin/", "/admin/login/", "/admin/llm/playground/", "/api/auth/login/"):
        assert admin_client.get(address).status_code == 404
    # A page of the API for browsers is drawn without links to the console.
    page = admin_client.get("/api/v1/documents/", headers={"accept": "text/html"})
    assert page.status_code == 200 and b"/admin/" not in page.content


def test_the_environment_chooses(tmp_path) -> None:
    assert settings_value(tmp_path, "ROOT_URLCONF") == "mlops.urls"
    assert settings_value(tmp_path, "ROOT_URLCONF", URLS="user") == "mlops.urls_user"
    # What is misspelt opens nothing.
    assert settings_value(tmp_path, "ROOT_URLCONF", URLS="users") == "mlops.urls_user"
