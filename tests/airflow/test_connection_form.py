"""The connection form is described twice, for Airflow before and from 3.2: both describe the same form."""

from importlib.util import find_spec
from typing import Any

import airflow
import pytest

from airflow_provider_aha import get_provider_info
from airflow_provider_aha.config import ClientConfig
from airflow_provider_aha.hooks.aha import AhaHook

AIRFLOW = tuple(int(part) for part in airflow.__version__.split(".")[:2])
FIELDS: dict[str, dict[str, Any]] = get_provider_info.CONN_FIELDS
EXPECTED = {
    name: {
        "label": field["label"],
        "description": field["description"],
        "type": next(kind for kind in field["schema"]["type"] if kind != "null"),
        "default": field["schema"].get("default"),
    }
    for name, field in FIELDS.items()
}


def test_defaults_of_the_form_are_those_of_the_client():
    """A form that was saved without a change means the same as no extras at all."""
    defaults = {name: field["schema"].get("default") for name, field in FIELDS.items()}
    saved = ClientConfig.from_connection(host="acme", password="key", extra=defaults)
    assert saved == ClientConfig(base_url="https://acme.aha.io", account="acme", api_key="key")
    constructor = ClientConfig.__dataclass_fields__
    for name in defaults.keys() & constructor.keys() - {"base_url", "verify", "proxies"}:
        assert defaults[name] == constructor[name].default


@pytest.mark.parametrize(
    ("name", "bound"),
    [(name, bound) for name in FIELDS for bound in ("minimum", "maximum") if bound in FIELDS[name]["schema"]],
)
def test_what_the_form_allows_the_client_accepts(name, bound):
    value = FIELDS[name]["schema"][bound]
    config = ClientConfig.from_connection(host="acme", password="key", extra={name: value})
    assert getattr(config, name) == value


def test_standard_fields_are_described_alike():
    info: Any = get_provider_info.get_provider_info()
    behaviour = info["connection-types"][0]["ui-field-behaviour"]
    assert AhaHook.get_ui_field_behaviour() == {
        "hidden_fields": behaviour["hidden-fields"],
        "relabeling": behaviour["relabeling"],
        "placeholders": behaviour["placeholders"],
    }


@pytest.mark.skipif(find_spec("flask_appbuilder") is None, reason="needs Flask AppBuilder, which Airflow 2 has")
def test_widgets_are_the_form():
    from wtforms import Form, IntegerField, StringField
    from wtforms.validators import Optional

    form: Any = type("ConnectionForm", (Form,), AhaHook.get_connection_form_widgets())()
    kinds = {IntegerField: "integer", StringField: "string"}
    found = {
        field.name: {
            "label": str(field.label.text),
            "description": field.description,
            "type": kinds[type(field)],
            "default": field.default,
        }
        for field in form
    }
    assert found == EXPECTED
    assert list(found) == list(EXPECTED)
    assert all(isinstance(field.validators[0], Optional) for field in form)


@pytest.mark.skipif(find_spec("flask_appbuilder") is None, reason="needs Flask AppBuilder, which Airflow 2 has")
def test_airflow_2_lists_the_widgets():
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    shown = [info.field_name for key, info in manager.connection_form_widgets.items() if "__aha__" in key]
    assert sorted(shown) == sorted(FIELDS)
    assert manager.field_behaviours["aha"]["hidden_fields"] == ["login"]


@pytest.mark.skipif(AIRFLOW < (3,), reason="the form service of the new user interface came with Airflow 3")
def test_form_that_the_user_interface_asks_for():
    """3.1 runs the hook's methods with wtforms and FAB replaced by mocks, 3.2 and later read the metadata."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    (meta,) = [hook for hook in HookMetaService.hook_meta_data() if hook.connection_type == "aha"]
    assert meta.hook_name == "Aha!"
    fields: Any = meta.extra_fields
    assert {
        name: {
            "label": field["schema"]["title"],
            "description": field["description"] or field["schema"].get("description"),
            "type": next(kind for kind in field["schema"]["type"] if kind != "null"),
            "default": field["value"],
        }
        for name, field in fields.items()
    } == EXPECTED
    assert all("null" in field["schema"]["type"] for field in fields.values())
    standard: Any = meta.standard_fields
    assert standard.login.hidden
    assert not standard.port.hidden
    assert (standard.host.title, standard.password.title) == ("Subdomain", "API key")
