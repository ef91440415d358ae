"""`/v1/models` for clients, and `/api/v1/llm/` for operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from django.test import Client

from llm.models import LanguageModel, ModelAlias
from llm.selectors import model_resolve
from llm.services.models import alias_save
from mlops.exceptions import ApplicationError
from mlops.models import ApiKey
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

MODELS, ALIASES = "/api/v1/llm/models", "/api/v1/llm/aliases"


@pytest.fixture
def client_of() -> Callable[[str], Client]:
    def make(role: str) -> Client:
        _key, token = ApiKey.objects.create(user=UserFactory(role=role))
        return Client(headers={"Authorization": f"Bearer {token}"})

    return make


@pytest.fixture
def operator(client_of) -> Client:
    return client_of("operator")


@pytest.fixture
def anyone(client_of) -> Client:
    return client_of("client")


def post(client: Client, path: str, body: dict) -> tuple[int, dict]:
    answer = client.post(path, body, content_type="application/json")
    return answer.status_code, answer.json()


def model(name: str, **fields: object) -> LanguageModel:
    return LanguageModel.objects.create(name=name, source=name, **fields)


class TestListed:
    def test_models_adapters_and_aliases(self, anyone: Client) -> None:
        base = model("org/base-1.5", context_length=4096)
        adapter = model("tuned", base=base)
        model("off", enabled=False)
        model("off-adapter", base=LanguageModel.objects.get(name="off"))
        alias_save(alias=ModelAlias(), name="chat", targets=[(adapter, 100)])
        alias_save(alias=ModelAlias(), name="dead", targets=[(base, 1)])
        ModelAlias.objects.get(name="dead").targets.update(weight=0)

        listed = anyone.get("/v1/models").json()
        assert listed["object"] == "list"
        found = {one["id"]: one for one in listed["data"]}
        assert list(found) == ["chat", "org/base-1.5", "tuned"]
        assert found["tuned"]["parent"] == "org/base-1.5" and found["tuned"]["root"] == "tuned"
        assert found["org/base-1.5"]["parent"] is None
        assert found["org/base-1.5"]["max_model_len"] == 4096
        for one in listed["data"]:
            assert one["object"] == "model" and one["owned_by"]
            assert isinstance(one["created"], int)

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_one_by_a_name_with_a_slash(self, anyone: Client, slash: str) -> None:
        model("org/base-1.5")
        answer = anyone.get(f"/v1/models/org/base-1.5{slash}")
        assert answer.status_code == 200 and answer.json()["id"] == "org/base-1.5"
        missing = anyone.get(f"/v1/models/org/other{slash}")
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "model_not_found"

    def test_a_key_is_needed(self) -> None:
        assert Client().get("/v1/models").status_code == 401


class TestAliases:
    def test_requests_are_shared_by_weight(self) -> None:
        one, two, off = model("one"), model("two"), model("off", enabled=False)
        alias_save(alias=ModelAlias(), name="chat", targets=[(one, 90), (two, 10), (off, 900)])
        found = Counter(model_resolve("chat").name for _request in range(300))
        assert set(found) == {"one", "two"}
        # Equal shares would give so many less often than once in 10^12.
        assert found["one"] > 225

    def test_a_name_means_one_thing(self, operator: Client) -> None:
        model("one")
        targets = [{"model": "one"}]
        assert post(operator, ALIASES, {"name": "one", "targets": targets})[0] == 400
        assert post(operator, ALIASES, {"name": "chat", "targets": targets})[0] == 201
        status, body = post(operator, MODELS, {"name": "chat", "source": "x"})
        assert status == 400 and body["error"]["param"] == "name"

    def test_made_changed_and_deleted(self, operator: Client) -> None:
        model("one"), model("two")
        status, made = post(
            operator, ALIASES, {"name": "chat", "targets": [{"model": "one", "weight": 3}]}
        )
        assert status == 201 and made["targets"] == [{"model": "one", "weight": 3}]
        path = f"{ALIASES}/{made['id']}"
        changed = operator.patch(
            path, {"targets": [{"model": "two"}]}, content_type="application/json"
        ).json()
        assert changed["name"] == "chat"
        assert changed["targets"] == [{"model": "two", "weight": 100}]
        renamed = operator.patch(path, {"name": "talk"}, content_type="application/json").json()
        assert renamed["targets"] == [{"model": "two", "weight": 100}]
        assert operator.delete(path).status_code == 204
        with pytest.raises(ApplicationError):
            model_resolve("talk")

    @pytest.mark.parametrize(
        "targets", [[], [{"model": "one", "weight": 0}], [{"model": "one"}, {"model": "one"}]]
    )
    def test_targets_that_make_no_sense(self, operator: Client, targets: list) -> None:
        model("one")
        assert post(operator, ALIASES, {"name": "chat", "targets": targets})[0] == 400


class TestModels:
    def test_made_changed_and_deleted(self, operator: Client) -> None:
        status, made = post(operator, MODELS, {"name": "base", "source": "/models/base"})
        assert status == 201
        assert (made["engine"], made["task"], made["warm"], made["instances"]) == (
            "transformers",
            "text-generation",
            False,
            [],
        )
        status, tuned = post(
            operator, MODELS, {"name": "tuned", "base": "base", "source": "/models/tuned"}
        )
        assert status == 201 and tuned["base"] == "base"
        path = f"{MODELS}/{made['id']}"
        changed = operator.patch(path, {"notes": "x"}, content_type="application/json").json()
        assert (changed["notes"], changed["source"]) == ("x", "/models/base")

        kept = operator.delete(path)
        assert kept.status_code == 409 and "tuned" in kept.json()["error"]["message"]
        assert operator.delete(f"{MODELS}/{tuned['id']}").status_code == 204
        assert operator.delete(path).status_code == 204

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"name": "no blanks"}, "name"),
            ({"engine": "none"}, "engine"),
            ({"queue": "none"}, "queue"),
            ({"base": "base", "source": ""}, "source"),
            ({"base": "tuned"}, "base"),
            ({"dtype": "float8"}, "dtype"),
        ],
    )
    def test_what_is_refused_is_named(self, operator: Client, fields: dict, param: str) -> None:
        model("tuned", base=model("base"))
        status, body = post(operator, MODELS, {"name": "new", "source": "/x", **fields})
        assert status == 400 and body["error"]["param"] == param

    def test_load_and_unload_are_wishes(self, operator: Client) -> None:
        row = model("base")
        tuned = model("tuned", base=row)
        answer = operator.post(f"{MODELS}/{tuned.pk}/load")
        row.refresh_from_db()
        assert answer.status_code == 202 and row.warm and row.unload_asked_at is None
        answer = operator.post(f"{MODELS}/{row.pk}/unload/")
        row.refresh_from_db()
        assert answer.status_code == 202 and not row.warm and row.unload_asked_at is not None

    @pytest.mark.parametrize("path", [MODELS, ALIASES])
    def test_for_operators_alone(self, anyone: Client, path: str) -> None:
        row = model("base")
        assert anyone.get(path).status_code == 403
        assert post(anyone, path, {"name": "new"})[0] == 403
        assert anyone.post(f"{MODELS}/{row.pk}/load").status_code == 403
