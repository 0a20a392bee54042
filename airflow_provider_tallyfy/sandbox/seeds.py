"""The data of a sandbox at the start. Ids are the same at each start, so that examples can use them.

Dates are relative to the start: the ordinary operations create the data, with the clock set back.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from airflow_provider_tallyfy.sandbox import model, runs, tasks
from airflow_provider_tallyfy.sandbox.access import LIGHT_TOKEN, TOKEN
from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.store import Store

Seed = Literal["demo", "empty"]
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


def _id(kind: int, number: int) -> str:
    return f"5eed{kind:04x}{number:024x}"


SEEDED_RUN_ID = "5eed" * 8
ONBOARDING_RUN_ID = _id(6, 1)
COMPLETE_RUN_ID = _id(6, 2)

RELEASE_CHECKLIST_ID = _id(1, 1)
ONBOARDING_CHECKLIST_ID = _id(1, 2)
INCIDENT_CHECKLIST_ID = _id(1, 3)
DATA_QUALITY_CHECKLIST_ID = _id(1, 4)

_MEMBERS = (
    model.Member(1001, "ada@example.com", "Ada", "Okafor", "Admin", "Head of operations"),
    model.Member(1002, "ben@example.com", "Ben", "Larsen", "Standard", "Release manager"),
    model.Member(1003, "chiara@example.com", "Chiara", "Ricci", "Standard", "Customer success"),
    model.Member(1004, "dev@example.com", "Dev", "Patel", "Light", "Contractor"),
)
_KICK_OFF, _CAPTURE, _RELEASE, _INCIDENT, _DATA_QUALITY = 3, 4, 0xA, 0xB, 0xC
_GROUP_IDS = (_id(7, 1), _id(7, 2))
_TAG_IDS = (_id(8, 1), _id(8, 2))
_FOLDER_IDS = (_id(9, 1), _id(9, 2))


def _field(
    kind: int, number: int, label: str, field_type: model.FieldType, *choices: str, required: bool = False
) -> model.FormField:
    """Return a form field, whose alias is its label.

    :param choices: the columns of a table, otherwise the options.
    """
    alias = label.casefold().replace(" ", "_") + ("_checked" if kind == _CAPTURE else "")
    field = model.FormField(_id(kind, number), alias, label, field_type, required)
    if field_type is model.FieldType.TABLE:
        field.columns = tuple(model.Column(*each) for each in enumerate(choices, start=1))
    else:
        field.options = tuple(model.Option(*each) for each in enumerate(choices, start=1))
    return field


def _all_types(kind: int, *required: str) -> list[model.FormField]:
    """Return one field of each type; both forms of the onboarding template have all of them."""
    rows: tuple[tuple[Any, ...], ...] = (
        ("Customer name", model.FieldType.TEXT),
        ("Notes", model.FieldType.TEXTAREA),
        ("Contact email", model.FieldType.EMAIL),
        ("Start date", model.FieldType.DATE),
        ("Plan", model.FieldType.RADIO, "Starter", "Business", "Enterprise"),
        ("Region", model.FieldType.DROPDOWN, "Europe", "Americas", "Asia Pacific"),
        ("Modules", model.FieldType.MULTISELECT, "Reports", "Automations", "Single sign-on"),
        ("Licences", model.FieldType.TABLE, "Product", "Seats"),
        ("Account team", model.FieldType.ASSIGNEES_FORM),
        ("Contract", model.FieldType.FILE),
    )
    return [
        _field(kind, number, label, field_type, *choices, required=label in required)
        for number, (label, field_type, *choices) in enumerate(rows, start=1)
    ]


def _step(
    number: int, alias: str, title: str, owners: model.Owners, due: timedelta, **properties: Any
) -> model.Step:
    """Return a step; the last digit of its number is its position."""
    return model.Step(
        _id(2, number), alias, title, number % 10, owners=owners, deadline_after=due, **properties
    )


def _on_rejection(number: int, step: int, verb: model.Verb, target: int) -> model.Rule:
    condition = model.Condition("Step", _id(2, step), "rejected", "any_time")
    actions = (model.Action(verb, _id(2, target)),)
    return model.Rule(_id(5, number), f"on_rejection_{number}", (condition,), actions)


_ADA, _CHIARA = model.Owners(users=(1001,)), model.Owners(users=(1003,))
_CUSTOMER_SUCCESS = model.Owners(groups=_GROUP_IDS[1:])
_COMMENT = _field(_RELEASE, 2, "Comment", model.FieldType.TEXTAREA, required=True)
_RELEASE_STEPS = [
    _step(
        *(1, "prepare_release_notes", "Prepare release notes", _CHIARA, _DAY),
        summary="Write what changes for users in version {{version}}.",
    ),
    _step(
        *(2, "approve_release", "Approve release", model.Owners((1002,), groups=_GROUP_IDS[:1]), 2 * _DAY),
        summary="Say in the comment why version {{version}} may or may not go out.",
        step_type="approval",
        captures=[_COMMENT],
    ),
    _step(3, "announce_release", "Announce release", model.Owners((1003,), ("press@example.org",)), 3 * _DAY),
]
_ONBOARDING_STEPS = [
    _step(
        *(11, "collect_documents", "Collect documents of {{customer_name}}", _CHIARA, 2 * _DAY),
        captures=_all_types(_CAPTURE, "Customer name", "Plan"),
    ),
    _step(12, "review_contract", "Review contract", _ADA, 6 * _DAY, step_type="approval"),
    _step(13, "set_up_account", "Set up account", model.Owners((1004,)), 10 * _DAY),
    _step(
        # Due before its forerunners: the two formats of next_task differ here.
        *(14, "security_review", "Security review", _CUSTOMER_SUCCESS, 4 * _DAY),
        summary="Not needed for the Starter plan.",
    ),
    _step(
        *(15, "welcome_call", "Welcome call", model.Owners((1003,), ("client@example.org",)), 14 * _DAY),
        start_after=7 * _DAY,
    ),
    _step(
        *(16, "decline_customer", "Tell the customer that the contract was declined", _CHIARA, 7 * _DAY),
        hidden_by_default=True,
    ),
]
_INCIDENT_STEPS = [
    _step(
        *(21, "find_the_cause", "Find out why {{pipeline}} failed", _ADA, 4 * _HOUR),
        summary="The log ends with: {{error}}",
        captures=[_field(_INCIDENT, 4, "Cause", model.FieldType.TEXTAREA, required=True)],
    ),
    _step(22, "tell_who_waits", "Tell those who wait for the data", _CUSTOMER_SUCCESS, _DAY),
]
_DATA_QUALITY_STEPS = [
    _step(
        *(31, "decide_on_rows", "Decide what becomes of the rows in {{table}}", _CHIARA, _DAY),
        summary="{{rows}} rows broke a rule.",
        captures=[
            _field(_DATA_QUALITY, 3, "Decision", model.FieldType.RADIO, "Load", "Drop", required=True),
            _field(_DATA_QUALITY, 4, "Reason", model.FieldType.TEXTAREA),
        ],
    )
]
_ONBOARDING_RULES = [
    _on_rejection(11, 12, "hide", 13),
    _on_rejection(12, 12, "hide", 15),
    _on_rejection(13, 12, "show", 16),
    model.Rule(
        _id(5, 14),
        "no_security_review_for_starter",
        (model.Condition("Prerun", _id(_KICK_OFF, 5), "equals", "Starter"),),
        (model.Action("hide", _id(2, 14)),),
    ),
]


def seeded_store(seed: Seed, behavior: Behavior | None = None) -> Store:
    """Return a store with members and tokens, and for ``demo`` with templates and runs too.

    :param seed: ``demo`` or ``empty``.
    :param behavior: what the sandbox does if the sources on Tallyfy disagree.
    """
    store = Store()
    # The dates below are what they are on any day of the week.
    store.behavior = Behavior(working_days="all")
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
        store.clock.set(start - 4 * _HOUR)
        _seed_release_run(store)
        store.clock.reset()
    store.behave(behavior or Behavior())
    return store


def _seed_organization(store: Store) -> None:
    now = store.now()
    company, press = {"company_name": "Globex"}, {"company_name": "Example Press"}
    for guest in (
        model.Guest(2001, "client@example.org", now, "Grace", "Mwangi", settings=company),
        model.Guest(2002, "press@example.org", now, "Paul", "Novak", settings=press),
    ):
        store.guests[guest.email] = guest
    for group in (
        model.Group(_GROUP_IDS[0], "Release managers", now, "Decide what goes out.", members=(1001, 1002)),
        model.Group(_GROUP_IDS[1], "Customer success", now, members=(1003,), guests=("client@example.org",)),
    ):
        store.groups[group.id] = group
    for tag_id, title, color in zip(_TAG_IDS, ("Urgent", "Customer"), ("#e74c3c", "#3498db"), strict=True):
        store.tags[tag_id] = model.Tag(tag_id, title, now, color)
    for key in (
        model.CustomFieldKey(_id(0xD, 1), "cost_center", "process", "text", now),
        model.CustomFieldKey(_id(0xD, 2), "priority", "task", "text", now),
    ):
        store.custom_field_keys[key.id] = key
    for folder_id, name, kind in zip(
        _FOLDER_IDS, ("Operations", "Customers"), ("checklist", "run"), strict=True
    ):
        store.folders[folder_id] = model.Folder(folder_id, name, kind, 1)
    for template in (
        model.Checklist(
            *(RELEASE_CHECKLIST_ID, "Release approval", "release-approval", now),
            summary="A person says whether a release goes out.",
            prerun=[_field(_RELEASE, 1, "Version", model.FieldType.TEXT)],
            steps=_RELEASE_STEPS,
            rules=[_on_rejection(1, 2, "hide", 3)],
            folder_id=_FOLDER_IDS[0],
        ),
        model.Checklist(
            *(ONBOARDING_CHECKLIST_ID, "Customer onboarding", "customer-onboarding", now),
            summary="From the signed contract to the first call.",
            prerun=_all_types(_KICK_OFF, "Customer name", "Contact email", "Region"),
            steps=_ONBOARDING_STEPS,
            rules=_ONBOARDING_RULES,
            tags=(_TAG_IDS[1],),
            starred=True,
        ),
        model.Checklist(
            *(INCIDENT_CHECKLIST_ID, "Pipeline incident", "pipeline-incident", now),
            summary="People look after a pipeline that failed.",
            prerun=[
                _field(_INCIDENT, 1, "Pipeline", model.FieldType.TEXT, required=True),
                _field(_INCIDENT, 2, "Task", model.FieldType.TEXT),
                _field(_INCIDENT, 3, "Error", model.FieldType.TEXTAREA),
            ],
            steps=_INCIDENT_STEPS,
            folder_id=_FOLDER_IDS[0],
        ),
        model.Checklist(
            *(DATA_QUALITY_CHECKLIST_ID, "Data quality exception", "data-quality-exception", now),
            summary="A person decides what becomes of data that broke a rule.",
            prerun=[
                _field(_DATA_QUALITY, 1, "Table", model.FieldType.TEXT, required=True),
                _field(_DATA_QUALITY, 2, "Rows", model.FieldType.TEXT),
            ],
            steps=_DATA_QUALITY_STEPS,
            folder_id=_FOLDER_IDS[0],
        ),
    ):
        store.checklists[template.id] = template


def _seed_release_run(store: Store) -> None:
    run = _launch_release(store, SEEDED_RUN_ID, "2.4.0")
    run.tags = _TAG_IDS[:1]
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
    runs.launch(
        *(store, store.members[1003], ONBOARDING_CHECKLIST_ID),
        name="Onboarding of Globex",
        prerun=values,
        run_id=ONBOARDING_RUN_ID,
        tags=_TAG_IDS[1:],
        folders=_FOLDER_IDS[1:],
    )


def _seed_complete_run(store: Store) -> None:
    run = _launch_release(store, COMPLETE_RUN_ID, "2.3.0")
    steps = (("prepare_release_notes", 1003), ("approve_release", 1002), ("announce_release", 1003))
    for alias, user_id in steps:
        store.clock.advance(6 * 3600)
        _complete(store, run, alias, user_id=user_id)


def _launch_release(store: Store, run_id: str, version: str) -> model.Run:
    return runs.launch(
        *(store, store.members[1002], RELEASE_CHECKLIST_ID),
        name=f"Release {version}",
        prerun={_id(_RELEASE, 1): version},
        run_id=run_id,
    )


def _complete(store: Store, run: model.Run, alias: str, *, user_id: int) -> None:
    caller = store.members[user_id]
    task = next(task for task in run.tasks.values() if task.alias == alias)
    if task.captures:
        tasks.update(store, caller, task, taskdata={_COMMENT.id: "All checks passed."})
    tasks.complete(store, caller, task, is_approved=True)
