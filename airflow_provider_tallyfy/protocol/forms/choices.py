"""
How an option of a radio, dropdown or multiselect field is chosen.

The rule held here: an option is named by its text, exact before case-folded, or else by its id; what names none of
them, or several alike, is refused with what there is to choose from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_tallyfy.protocol.formatting import listed, quoted
from airflow_provider_tallyfy.protocol.forms.fields import FormField, Option
from airflow_provider_tallyfy.protocol.lookup import Index, Rank, index, normalized
from airflow_provider_tallyfy.protocol.scalars import plain_text
from airflow_provider_tallyfy.protocol.validation import InvalidValueError


def options_by_name(field: FormField) -> Index[Option]:
    """
    Return an index of the options, by text and then by id.

    An option's id can be another's text. Tallyfy's makers decided for all their clients that the text comes first
    (official n8n node, resolveChoiceOption).
    """

    def text(option: Option) -> tuple[str, ...]:
        return (option.text,)

    return index(field.options, Rank(text), Rank(text, normalized), Rank(lambda option: (str(option.id),)))


def find_option(field: FormField, options: Index[Option], value: Any) -> Option:
    """
    Return the one option that a value names: by text, by id, or as an object with one of them or both.

    A boolean names the option ``true`` or ``yes``, ``false`` or ``no``.

    :param options: the field's, from :func:`options_by_name`.
    :raises InvalidValueError: where it names none, or several alike.
    """
    if isinstance(value, Mapping):
        found = tuple(option for option in field.options if _is_described_by(value, option))
        given = [f"the {key} {quoted(plain_text(value[key]))}" for key in ("id", "text") if key in value]
        shown = f"an option with {' and '.join(given) or 'neither id nor text'}"
    else:
        names = _option_names(value)
        found = next((matches for name in names if (matches := options.matches(name))), ())
        shown = quoted(names[0])
    if len(found) == 1:
        return found[0]
    if found:
        same = listed(f"{quoted(option.text)} (id {option.id})" for option in found)
        raise InvalidValueError(
            f"{shown} names {len(found)} options alike: {same}; say the text to the letter or the id"
        )
    there_are = f"choose from {listed(quoted(option.text) for option in field.options)}"
    raise InvalidValueError(f"{shown} is no option; {there_are if field.options else 'the field has none'}")


def _option_names(value: Any) -> tuple[str, ...]:
    """Return what a value may be called among the options, the most likely first."""
    if isinstance(value, bool):
        return ("true", "yes") if value else ("false", "no")
    if isinstance(value, float) and value.is_integer():
        # A column of whole numbers with gaps comes from a data frame as floats.
        return plain_text(value), plain_text(int(value))
    return (plain_text(value),)


def _is_described_by(value: Mapping[Any, Any], option: Option) -> bool:
    key, text = value.get("id"), value.get("text")
    if key is None and text is None:
        return False
    return (key is None or str(key) == str(option.id)) and (text is None or text == option.text)
