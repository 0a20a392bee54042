"""
A cluster policy that refuses a DAG when it is parsed if a gate in it could not keep its downstream tasks closed.

Airflow finds it by the entry point ``airflow.policy``. Only such a policy sees a whole DAG with its mapped tasks. It
checks only DAGs with a ``TallyfyApprovalOperator`` or a ``TallyfyBranchOperator``.
"""

from __future__ import annotations

from typing import Any

from airflow.policies import hookimpl


@hookimpl
def dag_policy(dag: Any) -> None:
    """
    Check the gates of a DAG.

    :raises AirflowClusterPolicyViolation: something downstream of a gate could run after a rejection, or a branch
        is not downstream of its operator. Airflow shows the message as the DAG's import error.
    """
    gates = [
        task for task in dag.tasks if hasattr(getattr(task, "operator_class", type(task)), "is_tallyfy_gate")
    ]
    if not gates:
        return
    from airflow.exceptions import AirflowClusterPolicyViolation

    from airflow_provider_tallyfy.operators.gate_downstream import find_problems

    if problems := [problem for gate in gates for problem in find_problems(gate)]:
        raise AirflowClusterPolicyViolation(f"DAG {dag.dag_id!r} is refused. {' '.join(problems)}")
