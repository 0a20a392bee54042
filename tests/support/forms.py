"""Builders of form fields, as the API returns them, and a directory."""

from __future__ import annotations

from airflow_provider_tallyfy.protocol.forms.fields import FormField, read_form_fields
from airflow_provider_tallyfy.protocol.people import Directory, Group, Member

DIRECTORY = Directory(
    members=(Member(1001, "ada@example.com"), Member(1002, "Ben@example.com")),
    groups=(
        Group("g1", "Release managers"),
        Group("g2", "Customer success"),
        Group("g3", "customer Success"),
    ),
)


def field(field_type: str = "text", **more) -> FormField:
    described = {"id": "f1", "alias": "it", "label": "It", "field_type": field_type, **more}
    return read_form_fields([described])[0]


def choice(field_type: str, *texts: str, **more) -> FormField:
    options = [{"id": number, "text": text, "value": None} for number, text in enumerate(texts, start=1)]
    return field(field_type, options=options, **more)


def table(*labels: str, **more) -> FormField:
    columns = [{"id": number, "label": label} for number, label in enumerate(labels, start=1)]
    return field("table", columns=columns, **more)


def form(*described: dict) -> tuple[FormField, ...]:
    return read_form_fields([{"field_type": "text", **each} for each in described])
