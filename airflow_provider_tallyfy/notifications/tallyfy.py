"""
Notifiers for ``on_failure_callback`` and its kin.

The rule held here: a notifier neither holds up nor fails what it is called from. What goes wrong is a line in the log,
a cap that lasts an hour is not waited for, and what may have been sent is not sent again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_tallyfy.actions.launching import FIELDS, Launch, Launcher
from airflow_provider_tallyfy.protocol.launch_mark import LaunchMark

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

_RETRIES = 2
_PATIENCE = 15.0
"""Seconds that ``Retry-After`` may hold it; a DAG's callbacks hold up Airflow's reading of DAG files meanwhile."""


class TallyfyNotifier(BaseNotifier):
    """
    Tells Tallyfy something, and logs it if that fails.

    :param tallyfy_conn_id: id of the Airflow connection. (templated)
    """

    def __init__(self, *, tallyfy_conn_id: str = "tallyfy_default") -> None:
        super().__init__()
        self.tallyfy_conn_id = tallyfy_conn_id

    def notify(self, context: Context) -> None:
        """Tell Tallyfy; called by Airflow."""
        # Imported late, since DAG files are parsed all day, and need no `requests` for that.
        from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

        try:
            self.tell(TallyfyHook(self.tallyfy_conn_id, retries=_RETRIES, patience=_PATIENCE), context)
        except Exception as error:  # noqa: BLE001 - nothing that goes wrong here is to add to what went wrong there
            self.log.error("%s told Tallyfy nothing: %s", type(self).__name__, error)

    @abstractmethod
    def tell(self, hook: TallyfyHook, context: Context) -> None:
        """Tell Tallyfy; whatever is raised is logged."""


class TallyfyLaunchRunNotifier(TallyfyNotifier):
    """
    Launch a run of a template: people see to what went wrong.

    .. code-block:: python

        on_failure_callback = TallyfyLaunchRunNotifier(
            checklist_id="5eed0001000000000000000000000001",
            name="{{ dag.dag_id }} failed",
            kickoff={"What happened": "{{ exception }}", "Log": "{{ ti.log_url }}"},
        )

    Each call launches a run of its own, so a task that fails at three tries and has it as ``on_retry_callback`` and
    ``on_failure_callback`` launches three. A text that is too long for its field, as an error message may be, is cut.

    The parameters are those of :class:`~airflow_provider_tallyfy.operators.tallyfy.TallyfyLaunchRunOperator`, all of
    them templated, with what Airflow gives to callbacks (``exception`` for tasks, ``reason`` for DAGs).

    :param checklist_id: id of the template.
    :param name: what the run is called.
    :param kickoff: values of the kick-off form by field id, alias or label.
    :param summary: the run's notes; where it comes from is added.
    :param owner_id: the member who owns the run, by id or e-mail address.
    :param tasks: ``{"owners": …, "deadline": …}`` by step id, alias or title.
    :param tags: ids of tags.
    :param users: members who see the run, by id or e-mail address.
    :param groups: groups that see the run, by id or name.
    :param roles: assignees by the id of a role of the template.
    :param folders: ids of folders.
    :param parent_id: id of the run that this one belongs to.
    :param tallyfy_conn_id: id of the Airflow connection.
    """

    template_fields: Sequence[str] = (*FIELDS, "tallyfy_conn_id")

    def __init__(
        self,
        *,
        checklist_id: str,
        name: str | None = None,
        kickoff: Mapping[str, Any] | None = None,
        summary: str | None = None,
        owner_id: int | str | None = None,
        tasks: Mapping[str, Mapping[str, Any]] | None = None,
        tags: Sequence[str] | None = None,
        users: Sequence[int | str] | None = None,
        groups: Sequence[str] | None = None,
        roles: Mapping[str, Any] | None = None,
        folders: Sequence[str] | None = None,
        parent_id: str | None = None,
        tallyfy_conn_id: str = "tallyfy_default",
    ) -> None:
        super().__init__(tallyfy_conn_id=tallyfy_conn_id)
        self.checklist_id = checklist_id
        self.name = name
        self.kickoff = kickoff
        self.summary = summary
        self.owner_id = owner_id
        self.tasks = tasks
        self.tags = tags
        self.users = users
        self.groups = groups
        self.roles = roles
        self.folders = folders
        self.parent_id = parent_id

    def tell(self, hook: TallyfyHook, context: Context) -> None:
        """Launch the run."""
        launch = Launch.of(self, _mark_of_this_call(context), cuts_texts=True)
        run_id = Launcher(hook, launch, self.log.warning).launch_at_most_once()
        self.log.info("Launched a process in Tallyfy: %s", hook.run_url(run_id))


class TallyfyCommentNotifier(TallyfyNotifier):
    """
    Write a comment on a task in Tallyfy, which its people are told of.

    Tallyfy takes 120 comments an hour from one organization; above that, the log says so and nothing is written.

    :param task_id: id of the task in Tallyfy, of a run or not. (templated)
    :param content: what the comment says. (templated)
    :param tallyfy_conn_id: id of the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = ("task_id", "content", "tallyfy_conn_id")

    def __init__(self, *, task_id: str, content: str, tallyfy_conn_id: str = "tallyfy_default") -> None:
        super().__init__(tallyfy_conn_id=tallyfy_conn_id)
        self.task_id = task_id
        self.content = content

    def tell(self, hook: TallyfyHook, context: Context) -> None:
        """Write the comment."""
        hook.comment(self.task_id, self.content)
        self.log.info("Commented on task %s in Tallyfy.", self.task_id)


def _mark_of_this_call(context: Context) -> LaunchMark:
    """Return a mark that says where a run comes from, and is of no other call."""
    task_instance = context.get("ti")
    dag: Any = context.get("dag")
    map_index = getattr(task_instance, "map_index", None)
    return LaunchMark(
        dag_id=str(getattr(task_instance or dag, "dag_id", "")),
        run_id=str(getattr(task_instance, "run_id", None) or context.get("run_id") or ""),
        task_id=str(getattr(task_instance, "task_id", "")),
        map_index=-1 if map_index is None else map_index,
        deployment=uuid4().hex,
    )
