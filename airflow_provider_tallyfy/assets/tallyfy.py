"""
Assets of Tallyfy, and assets that users' actions update.

An asset's URI names a template or a process: ``tallyfy://{organization}/checklists/{id}``,
``tallyfy://{organization}/runs/{id}``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import Asset

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset

SCHEME = "tallyfy"
_ID = re.compile("[A-Za-z0-9_-]{1,255}")
_PATH = re.compile("/(checklists|runs)/[A-Za-z0-9_-]{1,255}")


def create_asset(
    *,
    organization: str,
    checklist_id: str | None = None,
    run_id: str | None = None,
    extra: dict[str, Any] | None = None,
) -> Asset:
    """
    Return the asset of a template or of a process.

    :param organization: the organization's id.
    :param checklist_id: the template's id; or
    :param run_id: the process's id.
    :param extra: the asset's extra.
    :raises ValueError: both ids are given, or neither.
    """
    return Asset(uri=asset_uri(organization, checklist_id=checklist_id, run_id=run_id), extra=extra)


def asset_uri(organization: str, *, checklist_id: str | None = None, run_id: str | None = None) -> str:
    """Return the URI of the asset of a template or of a process."""
    if (checklist_id is None) == (run_id is None):
        raise ValueError("Give either checklist_id or run_id.")
    path = f"checklists/{checklist_id}" if run_id is None else f"runs/{run_id}"
    return f"{SCHEME}://{organization}/{path}"


def ascii_name(name: str) -> str:
    """Return a name for an asset, which Airflow requires to be ASCII on MySQL, and in 3.0 with any database."""
    return name.encode("ascii", "backslashreplace").decode()


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Return the normalized URI of an asset.

    :raises ValueError: it is not the URI of a template or a process.
    """
    if not _ID.fullmatch(uri.netloc):
        raise ValueError("URI format tallyfy:// must contain the id of an organization.")
    path = uri.path.rstrip("/")
    if not _PATH.fullmatch(path):
        raise ValueError("URI format tallyfy://ORGANIZATION must end with /checklists/ID or /runs/ID.")
    return uri._replace(path=path, query="", fragment="")


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> OpenLineageDataset:
    """Return the asset as a dataset of OpenLineage, with the organization as its namespace."""
    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset

    parsed = urlsplit(asset.uri)
    return OpenLineageDataset(namespace=f"{SCHEME}://{parsed.netloc}", name=parsed.path.lstrip("/"))


def event_asset(
    events: Sequence[str] | str = "process.completed",
    *,
    checklist_id: str | None = None,
    task: str | None = None,
    decision: str | None = None,
    form_values: bool = False,
    since: datetime | str | None = None,
    tallyfy_conn_id: str = "tallyfy_default",
    poke_interval: float | timedelta = 60,
    name: str | None = None,
) -> Asset:
    """
    Return an asset that is updated whenever users did something in Tallyfy, for the schedule of a DAG.

    .. code-block:: python

        @dag(schedule=event_asset("process.completed", checklist_id="2f1c…"))

    Calls with the same arguments return the same asset, so several DAGs may use it. For the other parameters see
    :class:`~airflow_provider_tallyfy.triggers.tallyfy.TallyfyEventTrigger`.

    :param name: the asset's name; by default it names the events, the filters and the connection. Two assets that
        differ in nothing but ``since`` or ``poke_interval`` need names of their own: Airflow keeps the watcher of the
        DAG that it parsed last.
    :raises TallyfyConfigurationError: this Airflow is older than 3.0, and has no asset watchers.
    :raises ValueError: for arguments that no event can match.
    """
    from airflow_provider_tallyfy.triggers.tallyfy import TallyfyEventTrigger

    trigger = TallyfyEventTrigger(
        events=events,
        checklist_id=checklist_id,
        task=task,
        decision=decision,
        form_values=form_values,
        since=since,
        tallyfy_conn_id=tallyfy_conn_id,
        poke_interval=poke_interval,
    )
    from airflow.sdk import AssetWatcher  # Airflow 3, or the trigger has raised an error

    if name is None:
        filters = {"checklist": checklist_id, "task": task, "decision": decision}
        parts = ["+".join(trigger.wanted.events)]
        parts += [f"{key}={value}" for key, value in filters.items() if value is not None]
        parts += ["form_values"] * form_values
        parts += [f"conn={tallyfy_conn_id}"] * (tallyfy_conn_id != "tallyfy_default")
        name = ascii_name(f"tallyfy {' '.join(parts)}")
    return Asset(name=name, watchers=[AssetWatcher(name="tallyfy", trigger=trigger)])
