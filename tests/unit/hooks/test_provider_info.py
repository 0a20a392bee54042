from __future__ import annotations

import json
import sys
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace

import airflow
import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager

from airflow_provider_tallyfy import __version__, get_provider_info
from airflow_provider_tallyfy.hooks.connection import TallyfyConnection
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS

SCHEMAS = Path(airflow.__file__).parent
[CONNECTION_TYPE] = get_provider_info()["connection-types"]
STANDARD_FIELDS = {"host", "login", "password", "port", "schema", "description", "extra"}


def test_valid_at_runtime():
    schema = json.loads((SCHEMAS / "provider_info.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(get_provider_info(), schema)
    if (
        AIRFLOW_V_3_3_PLUS
    ):  # Airflow 2's schema does not name all that its own providers have, and takes the rest
        assert set(get_provider_info()) <= {*schema["properties"], "versions"}


def test_valid_as_provider_yaml():
    schema = json.loads((SCHEMAS / "provider.yaml.schema.json").read_text())
    for name, part in get_provider_info().items():
        # Airflow 2 knows assets as datasets.
        if name != "versions" and (name in schema["properties"] or name != "asset-uris"):
            jsonschema.validate({name: part}, {**schema, "required": []})


def test_version():
    assert get_provider_info()["versions"] == [__version__]


def test_named_modules_and_classes_exist():
    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for described in info[kind]:
            assert described["integration-name"] in {
                known["integration-name"] for known in info["integrations"]
            }
            for module in described["python-modules"]:
                resolve_name(module)
    for name in (*info["extra-links"], *info["notifications"], CONNECTION_TYPE["hook-class-name"]):
        resolve_name(name)


class TestConnectionForm:
    def test_matches_the_hook(self):
        assert CONNECTION_TYPE["connection-type"] == TallyfyHook.conn_type == "tallyfy"
        assert CONNECTION_TYPE["hook-name"] == TallyfyHook.hook_name
        assert resolve_name(CONNECTION_TYPE["hook-class-name"]) is TallyfyHook
        assert (TallyfyHook.default_conn_name, TallyfyHook.conn_name_attr) == (
            "tallyfy_default",
            "tallyfy_conn_id",
        )

    def test_hidden_and_relabeled_fields_exist(self):
        behaviour = CONNECTION_TYPE["ui-field-behaviour"]
        hidden, renamed = set(behaviour["hidden-fields"]), set(behaviour["relabeling"])
        assert hidden <= STANDARD_FIELDS
        assert renamed <= STANDARD_FIELDS - hidden
        assert (
            set(behaviour["placeholders"]) <= (STANDARD_FIELDS | set(CONNECTION_TYPE["conn-fields"])) - hidden
        )

    def test_behaviour_for_airflow_2(self):
        behaviour = CONNECTION_TYPE["ui-field-behaviour"]
        assert TallyfyHook.get_ui_field_behaviour() == {
            "hidden_fields": behaviour["hidden-fields"],
            "relabeling": behaviour["relabeling"],
            "placeholders": behaviour["placeholders"],
        }

    def test_widgets_for_airflow_2_are_optional(self, monkeypatch):
        """Airflow 3 lacks the libraries of Airflow 2's form, so fakes take their place.

        They are all the kinds of fields that Airflow 2.11 takes; with any other it drops the connection type.
        """
        made = {
            name: type(name, (SimpleNamespace,), {})
            for name in ("BooleanField", "IntegerField", "PasswordField", "StringField", "Optional")
        }
        widgets = SimpleNamespace(BS3TextFieldWidget=object)
        monkeypatch.setitem(sys.modules, "wtforms", SimpleNamespace(**made))
        monkeypatch.setitem(sys.modules, "wtforms.validators", SimpleNamespace(Optional=made["Optional"]))
        monkeypatch.setitem(sys.modules, "flask_appbuilder.fieldwidgets", widgets)
        monkeypatch.setitem(sys.modules, "flask_babel", SimpleNamespace(lazy_gettext=str))
        fields = TallyfyHook.get_connection_form_widgets()
        assert set(fields) == set(CONNECTION_TYPE["conn-fields"])
        assert isinstance(fields["client_secret"], made["PasswordField"])
        assert isinstance(fields["allow_http"], made["BooleanField"])
        # A number's field refuses an empty text, and then the whole form cannot be saved, unless it is optional.
        assert isinstance(fields["timeout"], made["IntegerField"])
        assert [type(one) for one in getattr(fields["timeout"], "validators", [])] == [made["Optional"]]

    @pytest.mark.parametrize("name", sorted(CONNECTION_TYPE["conn-fields"]))
    def test_every_field_is_read(self, connect, name):
        """A value of no kind that fits any field is refused by the very name the form gives."""
        extra = {"client_id": "the-client", "client_secret": "s", name: {"no": "such"}}
        with pytest.raises(ValueError, match=f"extra '{name}'"):
            TallyfyConnection.read(
                "tallyfy_default", connect(extra, password=None).get_connection("tallyfy_default")
            )

    def test_client_secret_is_a_password_field(self):
        fields = CONNECTION_TYPE["conn-fields"]
        assert [name for name, field in fields.items() if field["schema"].get("format") == "password"] == [
            "client_secret"
        ]


class TestDiscovery:
    """The installed distribution, as Airflow finds it."""

    def test_provider(self):
        provider = ProvidersManager().providers["airflow-provider-tallyfy"]
        assert provider.version == __version__
        assert provider.data["name"] == "Tallyfy"

    @pytest.mark.filterwarnings(
        "ignore:ProvidersManager.hooks is deprecated"
    )  # what replaces it is not in Airflow 2
    def test_connection_type(self):
        found = ProvidersManager().hooks["tallyfy"]
        assert found.hook_class_name == "airflow_provider_tallyfy.hooks.tallyfy.TallyfyHook"
        assert found.connection_id_attribute_name == "tallyfy_conn_id"
        assert (found.package_name, found.hook_name) == ("airflow-provider-tallyfy", "Tallyfy")

    def test_extra_link(self):
        names = ProvidersManager().extra_links_class_names
        assert "airflow_provider_tallyfy.links.tallyfy.TallyfyProcessLink" in names

    def test_notifiers(self):
        names = {name.rpartition(".")[2] for name in ProvidersManager().notification}
        assert {"TallyfyLaunchRunNotifier", "TallyfyCommentNotifier", "TallyfyIssueNotifier"} <= names

    def test_get_hook(self, connect):
        connection = connect().get_connection("tallyfy_default")
        assert isinstance(connection.get_hook(), TallyfyHook)
