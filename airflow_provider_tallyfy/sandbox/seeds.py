"""The data of a sandbox at the start. Ids are the same at each start, so that examples can use them.

Dates are relative to the start: the ordinary operations create the data, with the clock set back.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from airflow_provider_tallyfy.sandbox import processes, tasks
from airflow_provider_tallyfy.sandbox.access import LIGHT_TOKEN, TOKEN, Caller
from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.model import (
    Checklist,
    Column,
    Condition,
    FieldType,
    Folder,
    FormField,
    Group,
    Guest,
    Member,
    Operation,
    Option,
    Owners,
    Role,
    Rule,
    Run,
    Step,
    Subject,
    Tag,
    TaskType,
    Verb,
)
from airflow_provider_tallyfy.sandbox.store import NextTaskShape, Store

Seed = Literal["demo", "empty"]


def _id(kind: int, number: int) -> str:
    return f"5eed{kind:04x}{number:024x}"


SEEDED_RUN_ID = "5eed" * 8
ONBOARDING_RUN_ID = _id(6, 1)
COMPLETE_RUN_ID = _id(6, 2)

RELEASE_CHECKLIST_ID = _id(1, 1)
ONBOARDING_CHECKLIST_ID = _id(1, 2)
INCIDENT_CHECKLIST_ID = _id(1, 3)
DATA_QUALITY_CHECKLIST_ID = _id(1, 4)
GENERATED_TEXT_CHECKLIST_ID = _id(1, 5)

_MEMBERS = (
    Member(1001, "ada@example.com", "Ada", "Okafor", Role.ADMIN, "Head of operations"),
    Member(1002, "ben@example.com", "Ben", "Larsen", Role.STANDARD, "Release manager"),
    Member(1003, "chiara@example.com", "Chiara", "Ricci", Role.STANDARD, "Customer success"),
    Member(1004, "dev@example.com", "Dev", "Patel", Role.LIGHT, "Contractor"),
)
_KICK_OFF, _CAPTURE, _RELEASE, _INCIDENT, _DATA_QUALITY, _TEXT = 3, 4, 0xA, 0xB, 0xC, 0xD
_GROUP_IDS = (_id(7, 1), _id(7, 2))
_TAG_IDS = (_id(8, 1), _id(8, 2))
_FOLDER_IDS = (_id(9, 1), _id(9, 2))


def _all_types(kind: int, *, required: frozenset[str]) -> tuple[FormField, ...]:
    """Return one field of each type; both forms of the onboarding template have all of them."""
    specifications: tuple[tuple[str, str, FieldType, tuple[str, ...], tuple[str, ...]], ...] = (
        ("customer_name", "Customer name", FieldType.TEXT, (), ()),
        ("notes", "Notes", FieldType.TEXTAREA, (), ()),
        ("contact_email", "Contact email", FieldType.EMAIL, (), ()),
        ("start_date", "Start date", FieldType.DATE, (), ()),
        ("plan", "Plan", FieldType.RADIO, ("Starter", "Business", "Enterprise"), ()),
        ("region", "Region", FieldType.DROPDOWN, ("Europe", "Americas", "Asia Pacific"), ()),
        ("modules", "Modules", FieldType.MULTISELECT, ("Reports", "Automations", "Single sign-on"), ()),
        ("licences", "Licences", FieldType.TABLE, (), ("Product", "Seats")),
        ("account_team", "Account team", FieldType.ASSIGNEES_FORM, (), ()),
        ("contract", "Contract", FieldType.FILE, (), ()),
    )
    suffix = "" if kind == _KICK_OFF else "_checked"
    return tuple(
        FormField(
            id=_id(kind, number),
            alias=f"{alias}{suffix}",
            label=label,
            field_type=field_type,
            required=alias in required,
            options=tuple(Option(position, text) for position, text in enumerate(options, start=1)),
            columns=tuple(Column(position, text) for position, text in enumerate(columns, start=1)),
        )
        for number, (alias, label, field_type, options, columns) in enumerate(specifications, start=1)
    )


_KICK_OFF_FIELDS = _all_types(_KICK_OFF, required=frozenset({"customer_name", "contact_email", "region"}))
_CAPTURES = _all_types(_CAPTURE, required=frozenset({"customer_name", "plan"}))
_COMMENT = FormField(_id(_RELEASE, 2), "comment", "Comment", FieldType.TEXTAREA, required=True)

_DAY = timedelta(days=1)

_RELEASE_STEPS = (
    Step(
        _id(2, 1),
        "prepare_release_notes",
        "Prepare release notes",
        1,
        summary="Write what changes for users in version {{version}}.",
        owners=Owners(users=(1003,)),
        deadline_after=_DAY,
    ),
    Step(
        _id(2, 2),
        "approve_release",
        "Approve release",
        2,
        summary="Say in the comment why version {{version}} may or may not go out.",
        step_type=TaskType.APPROVAL,
        captures=(_COMMENT,),
        owners=Owners(users=(1002,), groups=(_GROUP_IDS[0],)),
        deadline_after=2 * _DAY,
    ),
    Step(
        _id(2, 3),
        "announce_release",
        "Announce release",
        3,
        owners=Owners(users=(1003,), guests=("press@example.org",)),
        deadline_after=3 * _DAY,
    ),
)
_ONBOARDING_STEPS = (
    Step(
        _id(2, 11),
        "collect_documents",
        "Collect documents of {{customer_name}}",
        1,
        captures=_CAPTURES,
        owners=Owners(users=(1003,)),
        deadline_after=2 * _DAY,
    ),
    Step(
        _id(2, 12),
        "review_contract",
        "Review contract",
        2,
        step_type=TaskType.APPROVAL,
        owners=Owners(users=(1001,)),
        deadline_after=6 * _DAY,
    ),
    Step(
        _id(2, 13),
        "set_up_account",
        "Set up account",
        3,
        owners=Owners(users=(1004,)),
        deadline_after=10 * _DAY,
    ),
    Step(
        _id(2, 14),
        "security_review",
        "Security review",
        4,
        summary="Not needed for the Starter plan.",
        owners=Owners(groups=(_GROUP_IDS[1],)),
        # Due before its forerunners: the two forms of next_task differ here.
        deadline_after=4 * _DAY,
    ),
    Step(
        _id(2, 15),
        "welcome_call",
        "Welcome call",
        5,
        owners=Owners(users=(1003,), guests=("client@example.org",)),
        start_after=7 * _DAY,
        deadline_after=14 * _DAY,
    ),
    Step(
        _id(2, 16),
        "decline_customer",
        "Tell the customer that the contract was declined",
        6,
        owners=Owners(users=(1003,)),
        deadline_after=7 * _DAY,
        hidden_by_default=True,
    ),
)

_INCIDENT_STEPS = (
    Step(
        _id(2, 21),
        "find_the_cause",
        "Find out why {{pipeline}} failed",
        1,
        summary="The log ends with: {{error}}",
        captures=(FormField(_id(_INCIDENT, 4), "cause", "Cause", FieldType.TEXTAREA, required=True),),
        owners=Owners(users=(1001,)),
        deadline_after=timedelta(hours=4),
    ),
    Step(
        _id(2, 22),
        "tell_who_waits",
        "Tell those who wait for the data",
        2,
        owners=Owners(groups=(_GROUP_IDS[1],)),
        deadline_after=_DAY,
    ),
)
_DATA_QUALITY_STEPS = (
    Step(
        _id(2, 31),
        "decide_on_rows",
        "Decide what becomes of the rows in {{table}}",
        1,
        summary="{{rows}} rows broke a rule.",
        captures=(
            FormField(
                _id(_DATA_QUALITY, 3),
                "decision",
                "Decision",
                FieldType.RADIO,
                required=True,
                options=tuple(
                    Option(position, text) for position, text in enumerate(("Load", "Drop"), start=1)
                ),
            ),
            FormField(_id(_DATA_QUALITY, 4), "reason", "Reason", FieldType.TEXTAREA),
        ),
        owners=Owners(users=(1003,)),
        deadline_after=_DAY,
    ),
)

_GENERATED_TEXT_STEPS = (
    Step(
        _id(2, 41),
        "review_text",
        "Review the text on {{subject}}",
        1,
        summary="A model wrote it. Correct it here, then approve it; or reject it.",
        step_type=TaskType.APPROVAL,
        captures=(FormField(_id(_TEXT, 2), "text", "Text", FieldType.TEXTAREA),),
        owners=Owners(users=(1003,)),
        deadline_after=_DAY,
    ),
)


def _on_rejection(number: int, step_id: str, verb: Verb, target_step_id: str) -> Rule:
    condition = Condition(Subject.STEP, step_id, Operation.REJECTED)
    return Rule(_id(5, number), f"on_rejection_{number}", (condition,), verb, target_step_id)


_RELEASE_RULES = (_on_rejection(1, _id(2, 2), Verb.HIDE, _id(2, 3)),)
_ONBOARDING_RULES = (
    _on_rejection(11, _id(2, 12), Verb.HIDE, _id(2, 13)),
    _on_rejection(12, _id(2, 12), Verb.HIDE, _id(2, 15)),
    _on_rejection(13, _id(2, 12), Verb.SHOW, _id(2, 16)),
    Rule(
        _id(5, 14),
        "no_security_review_for_starter",
        (Condition(Subject.PRERUN, _id(_KICK_OFF, 5), Operation.EQUALS, "Starter"),),
        Verb.HIDE,
        _id(2, 14),
    ),
)


def seeded_store(
    seed: Seed, *, next_task_shape: NextTaskShape = "collection", behavior: Behavior | None = None
) -> Store:
    """Return a store with members and tokens, and for ``demo`` with templates and runs too.

    :param seed: ``demo`` or ``empty``.
    :param next_task_shape: the format of ``with=next_task``.
    :param behavior: what the sandbox does if the sources on Tallyfy disagree.
    """
    store = Store(next_task_shape=next_task_shape)
    store.members.update({member.id: member for member in _MEMBERS})
    store.access.grant(1001, token=TOKEN)
    store.access.grant(1004, token=LIGHT_TOKEN)
    if seed == "demo":
        start = store.now()
        store.clock.set(start - 30 * _DAY)
        _seed_organization(store)
        store.clock.set(start - 8 * _DAY)
        _seed_complete_run(store)
        store.clock.set(start - 3 * _DAY)
        _seed_onboarding_run(store)
        store.clock.set(start - timedelta(hours=4))
        _seed_release_run(store)
        store.clock.reset()
    if behavior is not None:
        store.behave(behavior)
    return store


def _seed_organization(store: Store) -> None:
    now = store.now()
    store.guests.update(
        {
            guest.email: guest
            for guest in (
                Guest(2001, "client@example.org", now, "Grace", "Mwangi", "Globex"),
                Guest(2002, "press@example.org", now, "Paul", "Novak", "Example Press"),
            )
        }
    )
    store.groups.update(
        {
            group.id: group
            for group in (
                Group(_GROUP_IDS[0], "Release managers", now, "Decide what goes out.", members=(1001, 1002)),
                Group(
                    _GROUP_IDS[1], "Customer success", now, members=(1003,), guests=("client@example.org",)
                ),
            )
        }
    )
    store.tags.update(
        {
            tag.id: tag
            for tag in (
                Tag(_TAG_IDS[0], "Urgent", "#e74c3c", now),
                Tag(_TAG_IDS[1], "Customer", "#3498db", now),
            )
        }
    )
    store.folders.update(
        {
            folder.id: folder
            for folder in (
                Folder(_FOLDER_IDS[0], "Operations", "checklist", 1),
                Folder(_FOLDER_IDS[1], "Customers", "run", 1),
            )
        }
    )
    release = Checklist(
        id=RELEASE_CHECKLIST_ID,
        title="Release approval",
        alias="release-approval",
        created_at=now,
        summary="A person says whether a release goes out.",
        prerun=(FormField(_id(_RELEASE, 1), "version", "Version", FieldType.TEXT),),
        steps=_RELEASE_STEPS,
        rules=_RELEASE_RULES,
        folder_id=_FOLDER_IDS[0],
    )
    onboarding = Checklist(
        id=ONBOARDING_CHECKLIST_ID,
        title="Customer onboarding",
        alias="customer-onboarding",
        created_at=now,
        summary="From the signed contract to the first call.",
        prerun=_KICK_OFF_FIELDS,
        steps=_ONBOARDING_STEPS,
        rules=_ONBOARDING_RULES,
        tags=(_TAG_IDS[1],),
        starred=True,
    )
    incident = Checklist(
        id=INCIDENT_CHECKLIST_ID,
        title="Pipeline incident",
        alias="pipeline-incident",
        created_at=now,
        summary="Somebody looks after a pipeline that failed.",
        prerun=(
            FormField(_id(_INCIDENT, 1), "pipeline", "Pipeline", FieldType.TEXT, required=True),
            FormField(_id(_INCIDENT, 2), "task", "Task", FieldType.TEXT),
            FormField(_id(_INCIDENT, 3), "error", "Error", FieldType.TEXTAREA),
        ),
        steps=_INCIDENT_STEPS,
        folder_id=_FOLDER_IDS[0],
    )
    data_quality = Checklist(
        id=DATA_QUALITY_CHECKLIST_ID,
        title="Data quality exception",
        alias="data-quality-exception",
        created_at=now,
        summary="A person decides what becomes of data that broke a rule.",
        prerun=(
            FormField(_id(_DATA_QUALITY, 1), "table", "Table", FieldType.TEXT, required=True),
            FormField(_id(_DATA_QUALITY, 2), "rows", "Rows", FieldType.TEXT),
        ),
        steps=_DATA_QUALITY_STEPS,
        folder_id=_FOLDER_IDS[0],
    )
    generated_text = Checklist(
        id=GENERATED_TEXT_CHECKLIST_ID,
        title="Review of a generated text",
        alias="review-of-a-generated-text",
        created_at=now,
        summary="A person approves or edits what a model wrote.",
        prerun=(FormField(_id(_TEXT, 1), "subject", "Subject", FieldType.TEXT, required=True),),
        steps=_GENERATED_TEXT_STEPS,
        folder_id=_FOLDER_IDS[0],
    )
    templates = (release, onboarding, incident, data_quality, generated_text)
    store.checklists.update({template.id: template for template in templates})


def _seed_release_run(store: Store) -> None:
    run = _launch_release(store, SEEDED_RUN_ID, "2.4.0")
    run.tags = (_TAG_IDS[0],)
    store.clock.advance(3600)
    _complete(store, run, "prepare_release_notes", user_id=1003)


def _seed_onboarding_run(store: Store) -> None:
    values = {
        _id(_KICK_OFF, 1): "Globex",
        _id(_KICK_OFF, 3): "client@example.org",
        _id(_KICK_OFF, 5): "Business",
        _id(_KICK_OFF, 6): {"id": 1, "text": "Europe", "value": None},
        _id(_KICK_OFF, 7): [{"id": 1, "text": "Reports", "value": None, "selected": True}],
        _id(_KICK_OFF, 8): ["Standard", "25"],
    }
    processes.launch(
        store,
        Caller(store.members[1003]),
        ONBOARDING_CHECKLIST_ID,
        name="Onboarding of Globex",
        prerun=values,
        run_id=ONBOARDING_RUN_ID,
        tags=(_TAG_IDS[1],),
        folders=(_FOLDER_IDS[1],),
    )


def _seed_complete_run(store: Store) -> None:
    run = _launch_release(store, COMPLETE_RUN_ID, "2.3.0")
    for alias, user_id in (
        ("prepare_release_notes", 1003),
        ("approve_release", 1002),
        ("announce_release", 1003),
    ):
        store.clock.advance(6 * 3600)
        _complete(store, run, alias, user_id=user_id)


def _launch_release(store: Store, run_id: str, version: str) -> Run:
    return processes.launch(
        store,
        Caller(store.members[1002]),
        RELEASE_CHECKLIST_ID,
        name=f"Release {version}",
        prerun={_id(_RELEASE, 1): version},
        run_id=run_id,
    )


def _complete(store: Store, run: Run, alias: str, *, user_id: int) -> None:
    caller = Caller(store.members[user_id])
    task = next(task for task in run.tasks.values() if task.alias == alias)
    if task.task_type is TaskType.APPROVAL:
        tasks.update(store, caller, task, taskdata={_COMMENT.id: "All checks passed."})
        tasks.complete(store, caller, task, is_approved=True)
    else:
        tasks.complete(store, caller, task)
