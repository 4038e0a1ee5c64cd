"""The connection forms are described twice, for Airflow before and from 3.2: both describe the same form."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import airflow
import pytest

from airflow_provider_aha import get_provider_info
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.hooks.aha import AhaHook
from airflow_provider_aha.hooks.oomnitza import OomnitzaHook
from airflow_provider_aha.push.targets.oomnitza.config import OomnitzaConfig

AIRFLOW = tuple(int(part) for part in airflow.__version__.split(".")[:2])


@dataclass(frozen=True)
class Form:
    """A connection type, and what its form is made of."""

    conn_type: str
    label: str
    secret: str
    fields: dict[str, dict[str, Any]]
    hook: Any
    config: Any
    bare: Any

    @property
    def expected(self) -> dict[str, dict[str, Any]]:
        return {
            name: {
                "label": field["label"],
                "description": field["description"],
                "type": next(kind for kind in field["schema"]["type"] if kind != "null"),
                "default": field["schema"].get("default"),
            }
            for name, field in self.fields.items()
        }

    @property
    def metadata(self) -> Any:
        info: Any = get_provider_info.get_provider_info()
        return next(one for one in info["connection-types"] if one["connection-type"] == self.conn_type)


AHA = Form(
    "aha",
    "Aha!",
    "API key",
    get_provider_info.CONN_FIELDS,
    AhaHook,
    ClientConfig,
    ClientConfig(base_url="https://acme.aha.io", account="acme", api_key="key"),
)
OOMNITZA = Form(
    "oomnitza",
    "Oomnitza",
    "API token",
    get_provider_info.OOMNITZA_CONN_FIELDS,
    OomnitzaHook,
    OomnitzaConfig,
    OomnitzaConfig(base_url="https://acme.oomnitza.com", account="acme", api_key="key"),
)
every_form = pytest.mark.parametrize("form", [AHA, OOMNITZA], ids=["aha", "oomnitza"])


@every_form
def test_defaults_of_the_form_are_those_of_the_client(form):
    """A form that was saved without a change means the same as no extras at all."""
    defaults = {name: field["schema"].get("default") for name, field in form.fields.items()}
    assert form.config.from_connection(host="acme", password="key", extra=defaults) == form.bare
    constructor = form.config.__dataclass_fields__
    for name in defaults.keys() & constructor.keys() - {"base_url", "verify", "proxies"}:
        assert defaults[name] == constructor[name].default


@pytest.mark.parametrize(
    ("form", "name", "bound"),
    [
        pytest.param(form, name, bound, id=f"{form.conn_type}-{name}-{bound}")
        for form in (AHA, OOMNITZA)
        for name in form.fields
        for bound in ("minimum", "maximum")
        if bound in form.fields[name]["schema"]
    ],
)
def test_what_the_form_allows_the_client_accepts(form, name, bound):
    value = form.fields[name]["schema"][bound]
    config = form.config.from_connection(host="acme", password="key", extra={name: value})
    assert getattr(config, name) == value


@every_form
def test_standard_fields_are_described_alike(form):
    behaviour = form.metadata["ui-field-behaviour"]
    assert form.hook.get_ui_field_behaviour() == {
        "hidden_fields": behaviour["hidden-fields"],
        "relabeling": behaviour["relabeling"],
        "placeholders": behaviour["placeholders"],
    }


@every_form
@pytest.mark.skipif(find_spec("flask_appbuilder") is None, reason="needs Flask AppBuilder, which Airflow 2 has")
def test_widgets_are_the_form(form):
    from wtforms import Form as Fields
    from wtforms import IntegerField, StringField
    from wtforms.validators import Optional

    made: Any = type("ConnectionForm", (Fields,), form.hook.get_connection_form_widgets())()
    kinds = {IntegerField: "integer", StringField: "string"}
    found = {
        field.name: {
            "label": str(field.label.text),
            "description": field.description,
            "type": kinds[type(field)],
            "default": field.default,
        }
        for field in made
    }
    assert found == form.expected
    assert list(found) == list(form.expected)
    assert all(isinstance(field.validators[0], Optional) for field in made)


@every_form
@pytest.mark.skipif(find_spec("flask_appbuilder") is None, reason="needs Flask AppBuilder, which Airflow 2 has")
def test_airflow_2_lists_the_widgets(form):
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    widgets = manager.connection_form_widgets.items()
    shown = [info.field_name for key, info in widgets if f"__{form.conn_type}__" in key]
    assert sorted(shown) == sorted(form.fields)
    assert manager.field_behaviours[form.conn_type]["hidden_fields"] == ["login"]


@every_form
@pytest.mark.skipif(AIRFLOW < (3,), reason="the form service of the new user interface came with Airflow 3")
def test_form_that_the_user_interface_asks_for(form):
    """3.1 runs the hook's methods with wtforms and FAB replaced by mocks, 3.2 and later read the metadata."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    from airflow.providers_manager import ProvidersManager

    # It keeps a hook that it has loaded before without FAB, and with it a form without fields.
    ProvidersManager()._cleanup()
    (meta,) = [hook for hook in HookMetaService.hook_meta_data() if hook.connection_type == form.conn_type]
    assert meta.hook_name == form.label
    fields: Any = meta.extra_fields
    assert {
        name: {
            "label": field["schema"]["title"],
            "description": field["description"] or field["schema"].get("description"),
            "type": next(kind for kind in field["schema"]["type"] if kind != "null"),
            "default": field["value"],
        }
        for name, field in fields.items()
    } == form.expected
    assert all("null" in field["schema"]["type"] for field in fields.values())
    standard: Any = meta.standard_fields
    assert standard.login.hidden
    assert not standard.port.hidden
    assert (standard.host.title, standard.password.title) == ("Subdomain", form.secret)
