"""
The connection form of Airflow 2.11, made from the provider info.

Airflow 3 reads the provider info itself. flask_appbuilder and wtforms are imported late: Airflow 3 does not have them.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_tallyfy.provider_info import get_provider_info
from airflow_provider_tallyfy.version_compat import secret_widget


def ui_field_behaviour() -> dict[str, Any]:
    """Return which standard fields the form hides, renames and explains."""
    behaviour: dict[str, Any] = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
    return {name.replace("-", "_"): value for name, value in behaviour.items()}


def widgets() -> dict[str, Any]:
    """Return a form field for each extra of the connection."""
    fields: dict[str, dict[str, Any]] = get_provider_info()["connection-types"][0]["conn-fields"]
    return {name: _widget(field) for name, field in fields.items()}


def _widget(field: dict[str, Any]) -> Any:
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import BooleanField, IntegerField, PasswordField, StringField
    from wtforms.validators import Optional

    text = {"label": lazy_gettext(field["label"]), "description": field["description"]}
    kind, is_secret = field["schema"]["type"][0], field["schema"].get("format") == "password"
    if kind == "boolean":
        return BooleanField(**text)
    if kind == "integer":
        return IntegerField(**text, widget=BS3TextFieldWidget(), validators=[Optional()])
    if is_secret:
        return PasswordField(**text, widget=secret_widget)
    return StringField(**text, widget=BS3TextFieldWidget())
