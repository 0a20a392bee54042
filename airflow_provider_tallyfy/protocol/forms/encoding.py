"""
What is sent for a plain Python value, by the type of its field.

Kick-off values and values of tasks go through the same validator at Tallyfy (page "Update task"). Options are sent in
Tallyfy's spelling, not the caller's. A value that does not fit is refused: Tallyfy may drop it or show it empty without
an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from json import dumps
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote

from airflow_provider_tallyfy.protocol.formatting import described, listed, quoted, quoter
from airflow_provider_tallyfy.protocol.forms.fields import Choice, FormField, is_on, option_text
from airflow_provider_tallyfy.protocol.lookup import Index, Rank, normalized
from airflow_provider_tallyfy.protocol.people import Directory, is_email
from airflow_provider_tallyfy.protocol.scalars import is_list, items_of, plain_text
from airflow_provider_tallyfy.protocol.validation import InvalidValueError


@dataclass(frozen=True, slots=True)
class LocalFile:
    """
    A file on this machine, in place of the uploaded one in an encoded value.

    :param path: its absolute path.
    """

    path: str


def encode_email(field: FormField, value: Any, directory: Directory | None) -> str:
    """Return an e-mail address."""
    if not is_email(value):
        raise InvalidValueError(f"an e-mail address was expected, not {described(value)}")
    return plain_text(value).strip()


def encode_radio(field: FormField, value: Any, directory: Directory | None) -> str:
    """Return the text of an option."""
    if field.has_hidden_options:
        return plain_text(option_text(value) if isinstance(value, Mapping) else value)
    return _find_option(field, _index(field.options), value).text


def encode_dropdown(field: FormField, value: Any, directory: Directory | None) -> dict[str, Any]:
    """Return an option as an object."""
    return _chosen(_find_option(field, _index(field.options), value))


def encode_multiselect(field: FormField, value: Any, directory: Directory | None) -> list[dict[str, Any]]:
    """Return options as objects, each once; a set has no order, so its options come in the order of the field."""
    options = _index(field.options)
    chosen: dict[Choice, None] = {}
    problems: list[str] = []
    for item in items_of(value):
        # As Tallyfy returns it: all options, of which some are selected.
        if isinstance(item, Mapping) and not is_on(item.get("selected", True)):
            continue
        try:
            chosen[_find_option(field, options, item)] = None
        except InvalidValueError as error:
            problems.extend(error.problems)
    if problems:
        raise InvalidValueError(*dict.fromkeys(problems))
    order = [option for option in field.options if option in chosen] if isinstance(value, Set) else chosen
    # Without 'selected', Tallyfy stores an option but shows it nowhere (page "Launch process").
    return [{**_chosen(option), "selected": True} for option in order]


def encode_table(field: FormField, value: Any, directory: Directory | None) -> list[Any]:
    """
    Return one entry for each column, in their order.

    That is a text if there is one row (page "Update task"), and otherwise the list of the column's texts in all rows
    (Tallyfy's MCP server).
    """
    rows = _rows(field, value)
    for row in rows:
        if len(row) != len(field.columns):
            labels = listed(map(quoter(texts := [column.text for column in field.columns]), texts))
            raise InvalidValueError(
                f"an entry for each column ({labels or 'none'}) was expected, but there is a row of {len(row)}"
            )
    cells = [["" if cell is None else plain_text(cell) for cell in row] for row in rows]
    columns = [list(column) for column in zip(*cells, strict=True)]
    return [column[0] for column in columns] if len(rows) == 1 else columns


def encode_files(field: FormField, value: Any, directory: Directory | None) -> list[Any]:
    """Return files as objects: uploaded ones as Tallyfy returned them, files by URL, and local files."""
    return [_file(file) for file in items_of(value)]


def encode_json(value: Any) -> Any:
    """Return a value unchanged, if it is JSON; so do the official clients for types that they do not know."""
    if isinstance(value, (str, date, Decimal)):
        return plain_text(value)
    try:
        dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"it cannot be sent as JSON ({type(error).__name__})") from None
    return value


def _index(choices: Sequence[Choice]) -> Index[Choice]:
    """
    Return an index of options or columns by text, and by id.

    If one of the texts is itself a number, such as ``10`` or ``5 %``, the ids are left out: a number means a text then.
    """

    def text(choice: Choice) -> tuple[str, ...]:
        return (choice.text,)

    by_id: Rank[Choice] = Rank(lambda choice: () if choice.id is None else (str(choice.id),))
    return Index(
        choices, Rank(text), Rank(text, normalized), *([] if any(map(_is_number, choices)) else [by_id])
    )


def _is_number(choice: Choice) -> bool:
    return any(map(str.isdigit, choice.text)) and not any(map(str.isalpha, choice.text))


def _find_option(field: FormField, options: Index[Choice], value: Any) -> Choice:
    """Return the one option that a value names: by text, by id, or as an object with one of them or both."""
    names: tuple[str, ...] = ()
    if isinstance(value, Mapping):
        key, text = value.get("id"), option_text(value)
        if field.has_hidden_options and key is not None and text is not None:
            return Choice(key, plain_text(text))
        given = {name: part for name, part in (("id", key), ("text", text)) if part is not None}
        parts = [f"{name} {quoted(plain_text(part))}" for name, part in given.items()]
        found = tuple(option for option in field.options if parts and _is_described(option, key, text))
        shown = f"an option with {' and '.join(parts) or 'neither id nor text'}"
    else:
        names = _option_names(value)
        found = next((matches for name in names if (matches := options.matches(name))), ())
    if len(found) == 1:
        return found[0]
    quote = quoter([*names[:1], *(option.text for option in field.options)])
    shown = quote(names[0]) if names else shown
    if found:
        same = listed(f"{quote(option.text)} (id {option.id})" for option in found)
        raise InvalidValueError(
            f"{shown} matches {len(found)} options: {same}; write the exact text, or {{'id': …}}"
        )
    if field.has_hidden_options:
        raise InvalidValueError(
            f"Tallyfy does not show the options; write {{'id': …, 'text': …}} instead of {shown}"
        )
    there_are = f"choose from {listed(quote(option.text) for option in field.options)}"
    by_id = next((each for each in field.options if each.id is not None and str(each.id) in names), None)
    if by_id:
        there_are += f", or write {{'id': {by_id.id!r}}} for {quote(by_id.text)}"
    raise InvalidValueError(
        f"{shown} is not an option; {there_are if field.options else 'the field has none'}"
    )


def _is_described(option: Choice, key: Any, text: Any) -> bool:
    return (key is None or str(key) == str(option.id)) and (text is None or plain_text(text) == option.text)


def _option_names(value: Any) -> tuple[str, ...]:
    """Return the texts or ids that a value may stand for, the most likely first."""
    if isinstance(value, bool):
        return ("true", "yes") if value else ("false", "no")
    if isinstance(value, float) and value.is_integer():
        # A column of whole numbers with gaps comes from a data frame as floats.
        return plain_text(value), plain_text(int(value))
    return (plain_text(value),)


def _chosen(option: Choice) -> dict[str, Any]:
    # Tallyfy wants the three keys, and the exact text (page "Launch process").
    return {"id": option.id, "text": option.text, "value": None}


def _rows(field: FormField, value: Any) -> list[Sequence[Any]]:
    """Return the rows of a table: one row, a list of rows (lists or mappings), or columns in a mapping."""
    if isinstance(value, Mapping):
        cells = _by_column(field, value)
        heights = {len(cell) if is_list(cell) else 1 for cell in cells if cell is not None}
        if not any(map(is_list, cells)):
            return [cells]
        if len(heights) > 1 or not all(cell is None or is_list(cell) for cell in cells):
            raise InvalidValueError("columns must be lists of the same length")
        empty = [None] * heights.pop()  # a column that is not given
        return list(zip(*(empty if cell is None else cell for cell in cells), strict=True))
    if not is_list(value):
        raise InvalidValueError(
            f"a row, a list of rows, or a mapping by column was expected, not {described(value)}"
        )
    if all(isinstance(row, Mapping) for row in value):
        return [_by_column(field, row) for row in value]
    return list(value) if all(map(is_list, value)) else [value]


def _by_column(field: FormField, row: Mapping[Any, Any]) -> list[Any]:
    """Return the cell of each column, ``None`` for one that is not given."""
    known = _index(field.columns)
    quote = quoter([*map(str, row), *(column.text for column in field.columns)])
    there_are = listed(quote(column.text) for column in field.columns) or "none"
    cells: dict[Choice, Any] = {}
    problems = []
    for name, cell in row.items():
        found = known.matches(str(name))
        if len(found) == 1 and found[0] not in cells:
            cells[found[0]] = cell
        elif len(found) == 1:
            problems.append(f"the column {quoted(found[0].text)} is given twice")
        else:
            problem = "is not a column" if not found else f"matches {len(found)} columns"
            problems.append(f"{quote(str(name))} {problem}; there are {there_are}")
    if problems:
        raise InvalidValueError(*problems)
    return [cells.get(column) for column in field.columns]


def _file(file: Any) -> Any:
    given = file
    path = file.get("path") if isinstance(file, Mapping) and file.keys() == {"path"} else file
    if isinstance(path, PurePath) or (isinstance(path, str) and path.startswith("/")):
        if not PurePath(path).is_absolute():
            raise InvalidValueError(f"the path of a file must be absolute, and {described(str(path))} is not")
        return LocalFile(str(path))
    if isinstance(file, str) and re.fullmatch(r"https://[^\s/]\S*", file.strip()):
        file = {"url": file.strip()}
    if isinstance(file, Mapping):
        url = file.get("url")
        link = url if isinstance(url, str) and re.fullmatch(r"https?://[^\s/]\S*", url) else None
        if link and not file.get("id"):
            # A URL needs no upload (Tallyfy's command line, kickoff.go; MCP server).
            path = re.split("[?#]", link, maxsplit=1)[0].rstrip("/")
            file = {"filename": unquote(path.rpartition("/")[2]), "source": "url", **file}
        name = file.get("filename")
        if isinstance(name, str) and name and (link or file.get("id") or file.get("full_url")):
            return encode_json(dict(file))
    raise InvalidValueError(
        "a file is an https URL, {'filename': …, 'url': …}, the absolute path of a local file, or the object that "
        f"Tallyfy returned for its upload, with 'id' and 'filename', not {described(given)}"
    )
