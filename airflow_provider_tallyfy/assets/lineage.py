"""Report what a task read and changed in Tallyfy to Airflow's lineage collector, and so to OpenLineage."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_tallyfy.assets.tallyfy import asset_uri

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

logger = logging.getLogger(__name__)


def report_lineage(
    hook: TallyfyHook,
    *,
    read_runs: Iterable[str] = (),
    read_checklists: Iterable[str] = (),
    changed_runs: Iterable[str] = (),
) -> None:
    """
    Report to Airflow's lineage collector which processes and templates a task read and changed.

    A failure is logged, and does not fail the task.

    :param hook: that the task used.
    :param read_runs: ids of processes that it read.
    :param read_checklists: ids of templates that it read.
    :param changed_runs: ids of processes that it launched or changed.
    """
    try:
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
        from airflow.providers.common.compat.sdk import NoOpCollector

        collector = get_hook_lineage_collector()
        if isinstance(collector, NoOpCollector):
            return
        organization = hook.connection.organization
        for checklist_id in read_checklists:
            collector.add_input_asset(hook, uri=asset_uri(organization, checklist_id=checklist_id))
        for run_id in read_runs:
            collector.add_input_asset(hook, uri=asset_uri(organization, run_id=run_id))
        for run_id in changed_runs:
            collector.add_output_asset(hook, uri=asset_uri(organization, run_id=run_id))
    except Exception as error:  # noqa: BLE001 (a collector may raise anything)
        logger.warning("The lineage of this task is not reported (%s: %s)", type(error).__name__, error)
