"""How a client's JSON becomes an item of the model: what is taken from it, only kept, or required."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from airflow_provider_tallyfy.sandbox.errors import invalid

_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True)
class Writable(Generic[_Item]):
    """What a client can write of one kind of item; anything else in a body is ignored, as at Tallyfy.

    The fields are named in texts, with spaces between them.

    :param model: the item's dataclass; pydantic converts and checks the values by its types.
    :param fields: the fields that a client sets.
    :param settings: the fields that are kept in the item's ``settings`` and shown, and do nothing else here.
    :param required: the fields that must be in the body of a create.
    :param required_on_update: those that must be in the body of an update; the same if not given.
    """

    model: type[_Item]
    fields: str
    settings: str = ""
    required: str = ""
    required_on_update: str | None = None

    def create(self, given: Mapping[str, Any], **known: Any) -> _Item:
        """Return a new item, or raise 422.

        :param given: the client's JSON.
        :param known: the values of the fields that the client does not set.
        """
        return self._build(given, known, self.required)

    def update(self, item: _Item, given: Mapping[str, Any]) -> _Item:
        """Return an item with what a client changes of it, or raise 422; ``null`` resets a field to its default."""
        fields = dataclasses.fields(item)  # type: ignore[arg-type]
        required = self.required if self.required_on_update is None else self.required_on_update
        return self._build(given, {field.name: getattr(item, field.name) for field in fields}, required)

    def _build(self, given: Mapping[str, Any], known: Mapping[str, Any], required: str) -> _Item:
        missing = {
            name: [f"The {name.replace('_', ' ')} field is required."]
            for name in required.split()
            if given.get(name) in (None, "")
        }
        if missing:
            raise invalid(missing)
        values = {**known, **{name: given[name] for name in self.fields.split() if name in given}}
        values = {name: value for name, value in values.items() if value is not None}
        if self.settings:
            kept = {name: given[name] for name in self.settings.split() if name in given}
            values["settings"] = {**known.get("settings", {}), **kept}
        return self._adapter.validate_python(values)

    @cached_property
    def _adapter(self) -> TypeAdapter[_Item]:
        return TypeAdapter(self.model)
