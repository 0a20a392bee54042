"""
Upload the local files among encoded form values, each once.

An uploaded file is attached to nothing until a form value names it. So an upload without a clear response is repeated:
at worst, Tallyfy keeps a file that no form shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.exceptions import TallyfyIndeterminateError
from airflow_provider_tallyfy.protocol.forms.encoding import LocalFile
from airflow_provider_tallyfy.protocol.validation import FormValuesError

if TYPE_CHECKING:
    from airflow_provider_tallyfy.actions.attempts import AttemptStore


def upload_local_files(
    encoded: Mapping[str, Any],
    check: Callable[[Path], int],
    upload: Callable[[Path, str], dict[str, Any]],
    store: AttemptStore | None,
) -> dict[str, Any]:
    """
    Upload the local files, and return the values with Tallyfy's object in place of each file.

    :param encoded: values by field id.
    :param check: returns the size of a file, or raises ``ValueError`` if it cannot be uploaded.
    :param upload: uploads a file for the field with this id, and returns Tallyfy's object for it.
    :param store: keeps what an earlier attempt uploaded.
    :raises FormValuesError: a file cannot be uploaded; no file was.
    """
    problems: list[str] = []
    keys: dict[tuple[str, str], str] = {}
    for field_id, files in encoded.items():
        for file in files if isinstance(files, list) else ():
            if isinstance(file, LocalFile):
                path = Path(file.path)
                try:
                    keys[field_id, file.path] = f"{field_id} {path} {check(path)} {path.stat().st_mtime_ns}"
                except (ValueError, OSError) as error:
                    problems.append(str(error))
    if problems:
        raise FormValuesError(problems)
    before = {} if store is None or not keys else store.uploaded()
    uploaded: dict[tuple[str, str], Any] = {}
    for (field_id, path_of_file), key in keys.items():
        if (file := before.get(key)) is None:
            try:
                file = upload(Path(path_of_file), field_id)
            except TallyfyIndeterminateError:
                file = upload(Path(path_of_file), field_id)
        uploaded[field_id, path_of_file] = file
        if store is not None and key not in before:
            store.mark_uploaded(key, file)

    def with_objects(field_id: str, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [uploaded[field_id, each.path] if isinstance(each, LocalFile) else each for each in value]

    return {field_id: with_objects(field_id, value) for field_id, value in encoded.items()}
