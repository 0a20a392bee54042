"""DAGs that launch processes, complete tasks and report failures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_tallyfy.notifications.tallyfy import TallyfyCommentNotifier, TallyfyLaunchRunNotifier
from airflow_provider_tallyfy.operators.tallyfy import (
    TallyfyApiOperator,
    TallyfyCompleteTaskOperator,
    TallyfyLaunchRunOperator,
)
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID, SEEDED_RUN_ID

NAME = "{{ dag.dag_id }} {{ params.name }}"
PARAMS = {"name": Param("", type="string")}
SOON = {"retries": 2, "retry_delay": timedelta(seconds=1)}


with DAG("launch_and_complete", schedule=None, params=PARAMS) as launch_and_complete:
    launch = TallyfyLaunchRunOperator(
        task_id="launch",
        checklist_id=RELEASE_CHECKLIST_ID,
        name=NAME,
        kickoff={"Version": "{{ params.name }}"},
        **SOON,
    )
    prepare = TallyfyCompleteTaskOperator(
        task_id="prepare",
        run_id=launch.output["id"],
        task="{{ ti.xcom_pull('launch', key='next_task')['title'] }}",
    )
    approve = TallyfyCompleteTaskOperator(
        task_id="approve",
        run_id=launch.output["id"],
        task="Approve release",
        form_fields={"Comment": "{{ params.name }} is good."},
        is_approved=True,
    )
    count = TallyfyApiOperator(
        task_id="count",
        endpoint="runs",
        query={"q": NAME, "checklist_id": launch.output["checklist_id"]},
        paginate=True,
        response_filter=len,
    )
    prepare >> approve >> count


with DAG("launch_mapped", schedule=None, params={"rows": Param([], type="array")}) as launch_mapped:

    @task
    def rows(params: dict[str, Any]) -> list[dict[str, str]]:
        return [{"Version": version} for version in params["rows"]]

    @task
    def collect(runs: list[dict[str, Any]]) -> list[str]:
        return [run["id"] for run in runs]

    launch_each = TallyfyLaunchRunOperator.partial(
        task_id="launch",
        checklist_id=RELEASE_CHECKLIST_ID,
        name="{{ dag_run.run_id }}",
        multiple_outputs=False,
        **SOON,
    ).expand(kickoff=rows())
    collect(launch_each.output)


with DAG("launch_fails_after", schedule=None, params=PARAMS) as launch_fails_after:

    class FailsAfterwards(TallyfyLaunchRunOperator):
        """Fails once its process is launched, at its first try."""

        def execute(self, context: Any) -> dict[str, Any]:
            run = super().execute(context)
            if context["ti"].try_number == 1:
                raise RuntimeError("The worker is lost.")
            return run

    FailsAfterwards(
        task_id="launch", checklist_id=RELEASE_CHECKLIST_ID, name=NAME, multiple_outputs=False, **SOON
    )


incident = TallyfyLaunchRunNotifier(
    checklist_id=RELEASE_CHECKLIST_ID,
    name="Incident in {{ dag.dag_id }} {{ params.name }}",
    kickoff={"Version": "{{ ti.task_id }}: {{ exception }}"},
)
comment = TallyfyCommentNotifier(
    task_id="{{ params.tallyfy_task_id }}", content="{{ ti.task_id }} failed: {{ exception }}"
)
with DAG(
    "launch_on_failure",
    schedule=None,
    params={**PARAMS, "tallyfy_task_id": Param(SEEDED_RUN_ID, type="string")},
) as launch_on_failure:

    @task(on_failure_callback=[incident, comment])
    def load() -> None:
        raise ValueError("the file is empty" + "!" * 300)

    load()
