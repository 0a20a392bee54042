"""An approval and its downstream tasks, for every version of Airflow."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator
from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID

for name, is_deferrable in (("poked", False), ("deferred", True)):
    with DAG(f"approval_gate_{name}", schedule=None, params={"run_id": Param(SEEDED_RUN_ID, type="string")}):

        @task
        def publish() -> None: ...

        @task(trigger_rule="all_done")
        def report() -> None: ...

        @task
        def clean_up() -> None: ...

        approval = TallyfyApprovalOperator(
            task_id="approval",
            run_id="{{ params.run_id }}",
            task="Approve release",
            poke_interval=1,
            deferrable=is_deferrable,
        )
        reported, cleaned_up = report(), clean_up()
        approval >> publish() >> reported >> cleaned_up.as_teardown()
        approval >> cleaned_up
