"""
Use a text that a model wrote only after a person has approved it, corrected or not.

`assess` stands for the model: it writes why a release may go out. `launch` launches the approval in Tallyfy, and
`propose` puts the text into the form of its task, where a person can correct it. `review` waits for the decision
without a worker. If the text is approved, `publish` gets it from the form; if it is rejected, nothing is published. It
runs unchanged against the sandbox.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

# On Airflow 3 alone, import these from airflow.sdk; this also runs on 2.11.
from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator, TallyfyLaunchRunOperator

RELEASE_APPROVAL = "5eed0001000000000000000000000001"


@dag(
    schedule=None,
    catchup=False,
    tags=["tallyfy", "example"],
    doc_md=__doc__,
    params={"version": Param("3.0.0", type="string", description="The version to write about.")},
)
def tallyfy_generated_text() -> None:
    @task
    def assess(params: dict[str, Any]) -> str:
        return f"Version {params['version']} is the best one ever. All checks passed."

    launch = TallyfyLaunchRunOperator(
        task_id="launch",
        checklist_id=RELEASE_APPROVAL,
        name="Release {{ params.version }}",
        kickoff={"Version": "{{ params.version }}"},
    )

    @task
    def propose(process_id: str, text: str) -> None:
        hook = TallyfyHook()
        [approval] = [each for each in hook.get_tasks(process_id) if each["alias"] == "approve_release"]
        form = hook.get_task(process_id, approval["id"], with_="form_fields")["form_fields"]["data"]
        [field] = [each for each in form if each["alias"] == "comment"]
        hook.update_task(process_id, approval["id"], taskdata={field["id"]: text})

    review = TallyfyApprovalOperator(
        task_id="review",
        run_id=launch.output["id"],
        task="approve_release",
        approvers=["Release managers"],
        deferrable=True,
        poke_interval=timedelta(seconds=5),  # a minute is enough if people take days
        timeout=timedelta(days=7),
    )

    @task
    def publish(decision: dict[str, Any]) -> str:
        return f"{decision['form_values']['comment']} (approved by {decision['decided_by']['name']})"

    propose(launch.output["id"], assess()) >> review
    publish(review.output)


tallyfy_generated_text()
