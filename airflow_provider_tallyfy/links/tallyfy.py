"""The link from a task to the process in Tallyfy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey

RUN_URL_KEY = "tallyfy_run_url"


class TallyfyProcessLink(BaseOperatorLink):
    """Leads to the page on which people see the run."""

    name = "Tallyfy process"
    # The task pushes the address under this key itself, so the link is there while it still waits.
    xcom_key = RUN_URL_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, or an empty text until the task has pushed it."""
        return XCom.get_value(ti_key=ti_key, key=RUN_URL_KEY) or ""


def push_run_url(context: Context, url: str) -> None:
    """Push the address of the run for the link, unless there is no task instance."""
    if (task_instance := context.get("ti")) is not None:
        task_instance.xcom_push(key=RUN_URL_KEY, value=url)
