"""
A text that a model wrote goes out only when a person has approved it, or has edited and approved it.

`draft` stands for the model. `launch` starts a review in Tallyfy, and `propose` puts the draft into the form of its
task, where a person corrects it. `review` waits for the decision without a worker: if the text is approved, `publish`
gets it as it stands in the form then; if it is rejected, nothing is published. It runs as it is against the sandbox.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

# On Airflow 3 alone, this can be `from airflow.sdk import ...`; written so, it runs on 2.11 too.
from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator, TallyfyLaunchRunOperator

GENERATED_TEXT = "5eed0001000000000000000000000005"


@dag(
    schedule=None,
    catchup=False,
    tags=["tallyfy", "example"],
    doc_md=__doc__,
    params={"subject": Param("version 3.0.0", type="string", description="What to write about.")},
)
def tallyfy_generated_text() -> None:
    @task
    def draft(params: dict[str, Any]) -> str:
        return f"We are proud to announce {params['subject']}, our best one ever."

    launch = TallyfyLaunchRunOperator(
        task_id="launch",
        checklist_id=GENERATED_TEXT,
        name="Text on {{ params.subject }}",
        kickoff={"Subject": "{{ params.subject }}"},
    )

    @task
    def propose(run_id: str, text: str) -> None:
        hook = TallyfyHook()
        [review] = [each for each in hook.get_tasks(run_id) if each["alias"] == "review_text"]
        form = hook.get_task(run_id, review["id"], with_="form_fields")["form_fields"]["data"]
        [field] = [each for each in form if each["alias"] == "text"]
        hook.update_task(run_id, review["id"], taskdata={field["id"]: text})

    review = TallyfyApprovalOperator(
        task_id="review",
        run_id=launch.output["id"],
        task="review_text",
        approvers={"users": ["chiara@example.com"], "groups": ["Release managers"]},
        deferrable=True,
        poke_interval=timedelta(seconds=5),  # a minute does where people take days
        timeout=timedelta(days=7),
    )

    @task
    def publish(decision: dict[str, Any]) -> str:
        text = decision["form_values"]["text"]
        if not text:
            raise ValueError("The text was approved, but is empty.")
        return f"{text} (approved by {decision['decided_by']['name']})"

    propose(launch.output["id"], draft()) >> review
    publish(review.output)


tallyfy_generated_text()
