"""Events that are found in a run, their ids and payloads, and the cursor of a watcher."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_tallyfy.events.cursor import MAX_COMPLETED, MAX_SEEN, MIN_OVERLAP, OVERLAP, Cursor
from airflow_provider_tallyfy.events.kinds import EVENTS, EventFilter, find_events
from airflow_provider_tallyfy.events.payload import MAX_FORM_VALUES, MAX_NAME, to_payload
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError
from airflow_provider_tallyfy.triggers.events import CursorStore
from tests.support.asset_state import AssetStateStore

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def text(moment):
    return moment.isoformat().replace("+00:00", "Z")


def task(task_id="t1", completed_at=None, **more):
    return {"id": task_id, "alias": task_id, "title": f"Task {task_id}", "completed_at": completed_at, **more}


def run(*tasks, **more):
    return {
        "id": "r1",
        "checklist_id": "c1",
        "name": "Run",
        "created_at": text(NOON - timedelta(days=1)),
        "last_updated": text(NOON),
        "tasks": {"data": list(tasks)},
        **more,
    }


def found(shown, *events, completed=(), **filters):
    return [
        event.id for event in find_events(shown, EventFilter.checked(events, **filters), dict(completed).get)
    ]


def test_process_events_have_their_time_in_their_id():
    shown = run(completed_at="2026-11-25T12:00:00.123Z", archived_at="2026-11-25 12:00:05")
    assert found(shown, *EVENTS[:3]) == [
        "process.launched/r1/20261124T120000Z",
        "process.completed/r1/20261125T120000Z",
        "process.archived/r1/20261125T120005Z",
    ]


@pytest.mark.parametrize(
    "moment",
    ["2026-11-25T12:00:00Z", "2026-11-25T12:00:00.999Z", "2026-11-25 12:00:00", "2026-11-25T13:00:00+01:00"],
)
def test_event_id_does_not_depend_on_the_format_of_the_time(moment):
    assert found(run(completed_at=moment), "process.completed") == ["process.completed/r1/20261125T120000Z"]


@pytest.mark.parametrize("moment", [None, "", "soon", 5, {}])
def test_no_event_without_a_valid_time(moment):
    assert found(run(completed_at=moment), "process.completed") == []


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"])
def test_no_event_if_the_time_is_out_of_range_in_utc(moment):
    assert found(run(completed_at=moment, last_updated=moment), "process.completed") == []


def test_filters_by_id_alias_or_title_of_a_task():
    shown = run(task("t1", text(NOON)), task("t2", text(NOON)))
    for name in ("t2", "Task t2", "task T2"):
        assert found(shown, "task.completed", task=name) == ["task.completed/t2/20261125T120000Z"]
    assert found(shown, "task.completed", task="t3") == []
    assert len(found(shown, "task.completed")) == 2


def test_filters_by_template_and_decision():
    approval = {"task_type": "approval"}
    shown = run(
        task("yes", text(NOON), is_approved=True, **approval),
        task("no", text(NOON), is_approved=False, **approval),
        task("none", text(NOON), is_approved=False, task_type="task"),
    )
    assert found(shown, "task.completed", decision="approved") == ["task.completed/yes/20261125T120000Z"]
    assert found(shown, "task.completed", decision="rejected") == ["task.completed/no/20261125T120000Z"]
    assert found(shown, "task.completed", checklist_id="c2") == []


def test_raises_if_tasks_cannot_be_read():
    with pytest.raises(MalformedResponseError):
        found(run(tasks="?"), "task.completed")


def test_reopening_needs_a_run_that_changed_after_the_completion():
    noon = int(NOON.timestamp())
    opened = "task.reopened/t1/20261125T120000Z"
    # An old state of the run, from before the completion.
    assert found(run(task()), "task.reopened", completed={"t1": noon}) == []
    later = run(task(), last_updated=text(NOON + timedelta(seconds=5)))
    assert found(later, "task.reopened", completed={"t1": noon}) == [opened]
    again = run(task(completed_at=text(NOON + timedelta(seconds=9))))
    assert found(again, "task.reopened", completed={"t1": noon}) == [opened]
    assert found(run(task(completed_at=text(NOON))), "task.reopened", completed={"t1": noon}) == []


def test_comments_and_issues_have_their_ids():
    threads = [
        {"id": "a", "label": "comment", "created_at": text(NOON)},
        {"id": "b", "label": "problem", "created_at": text(NOON), "resolve_id": "c"},
        {"id": "c", "label": "resolve", "created_at": text(NOON)},
    ]
    shown = run(task(threads={"data": threads}))
    assert found(shown, *EVENTS[5:]) == [
        "task.comment_added/a",
        "task.issue_raised/b",
        "task.issue_resolved/b/c",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"events": []}, "at least one"),
        ({"events": {"process.launched", "process.completed"}}, "list"),
        ({"events": None}, "list"),
        ({"events": "process.finished"}, "process.completed"),
        ({"events": "process.completed", "task": "t"}, "no task"),
        ({"events": "process.completed", "decision": "approved"}, "task.completed"),
        ({"events": "task.completed", "decision": "yes"}, "rejected"),
        ({"events": "task.completed", "task": " "}, "task"),
        ({"events": "process.completed", "checklist_id": "Release approval"}, "checklist_id"),
    ],
)
def test_rejects_a_filter_that_no_event_can_match(arguments, message):
    with pytest.raises(ValueError, match=message):
        EventFilter.checked(**arguments)


def events_at(*moments):
    return [
        find_events(run(completed_at=text(moment)), EventFilter(("process.completed",)))[0]
        for moment in moments
    ]


def test_events_before_the_floor_or_stored_are_not_new():
    cursor = Cursor(NOON)
    early, late = events_at(NOON - timedelta(seconds=1), NOON)
    assert not cursor.is_new(early)
    assert cursor.is_new(late)
    cursor.store(late)
    assert not cursor.is_new(late)


def test_cursor_survives_serialization():
    cursor = Cursor(NOON)
    [event] = events_at(NOON)
    cursor.store(event)
    cursor.note_completion("t1", 5)
    cursor.advance(NOON)
    again = Cursor.from_json(json.loads(json.dumps(cursor.to_json())))
    assert again == cursor
    assert Cursor.from_json(None) is None
    assert Cursor.from_json({"floor": "?"}) is None


def test_floor_follows_the_sweep_before_the_last_one():
    cursor = Cursor(NOON)
    first, second = NOON + timedelta(hours=2), NOON + timedelta(hours=3)
    cursor.advance(first)
    assert cursor.floor == NOON
    cursor.advance(second)
    assert cursor.floor == first - OVERLAP
    [late] = events_at(first - OVERLAP)
    assert cursor.is_new(late)


def test_stored_events_are_bounded_and_none_in_the_overlap_is_new_again():
    cursor = Cursor(NOON)
    moments = [NOON + timedelta(seconds=second) for second in range(2 * MAX_SEEN)]
    events = events_at(*moments)
    for event in events:
        cursor.store(event)
    swept = moments[-1]
    cursor.advance(swept)
    assert len(cursor.seen) == len(events)
    cursor.advance(swept + timedelta(seconds=1))
    assert len(cursor.seen) <= MAX_SEEN
    assert cursor.floor <= swept - MIN_OVERLAP
    assert not any(map(cursor.is_new, events))


def test_largest_cursor_is_below_the_size_of_which_airflow_warns():
    cursor = Cursor(NOON)
    for event in events_at(*(NOON + timedelta(seconds=second) for second in range(MAX_SEEN))):
        cursor.store(event)
    # A sweep notes the completed tasks of all runs.
    for number in range(3 * MAX_COMPLETED):
        cursor.note_completion(f"t{number}", int(NOON.timestamp()) + number)
    stored = cursor.to_json()
    assert len(stored["seen"]) == MAX_SEEN
    assert len(stored["completed"]) == MAX_COMPLETED
    assert cursor.completed_at(f"t{3 * MAX_COMPLETED - 1}") == int(NOON.timestamp()) + 3 * MAX_COMPLETED - 1
    assert len(json.dumps(stored)) < 65_535


def test_stored_cursor_does_not_grow():
    """A cursor is merged with the stored one before it is saved."""

    async def run():
        store = AssetStateStore()
        cursors = CursorStore([store], EventFilter(("process.completed",)), "org")
        cursor = Cursor(NOON)
        for hour in range(24):
            moment = NOON + timedelta(hours=hour)
            for event in events_at(*(moment + timedelta(minutes=minute) for minute in range(60))):
                cursor.store(event)
            cursor.advance(moment + timedelta(hours=1))
            await cursors.save(cursor)
        assert len(store.cursor["seen"]) <= 2 * 60 + 1

    asyncio.run(run())


def test_each_organization_has_its_own_cursor():
    async def run():
        store, wanted = AssetStateStore(), EventFilter(("process.completed",))
        first = CursorStore([store], wanted, "org")
        await first.save(Cursor(NOON))
        other = CursorStore([store], wanted, "another")
        assert await other.load() is None
        await other.save(Cursor(NOON + timedelta(days=1)))
        assert await first.load() == Cursor(NOON)

    asyncio.run(run())


def test_old_read_does_not_repeat_a_reopening():
    wanted = EventFilter(("task.reopened",))
    cursor = Cursor(NOON)
    noon = int(NOON.timestamp())
    cursor.note_completion("t1", noon)
    [event] = find_events(
        run(task(), last_updated=text(NOON + timedelta(seconds=5))), wanted, cursor.completed_at
    )
    cursor.store(event)
    cursor.note_completion("t1", noon)  # a list that lags
    assert cursor.completed_at("t1") is None
    cursor.note_completion("t1", noon + 60)
    assert cursor.completed_at("t1") == noon + 60


def test_merges_the_cursor_of_another_triggerer():
    cursor, other = Cursor(NOON), Cursor(NOON + timedelta(hours=1))
    [event] = events_at(NOON + timedelta(hours=2))
    other.store(event)
    cursor.merge(other)
    assert not cursor.is_new(event)
    assert cursor.floor == other.floor


def test_completed_reopened_and_completed_again_between_two_polls():
    """The first completion was stored; the reopening and the second one are found in the same read."""
    wanted = EventFilter(("task.completed", "task.reopened"))
    cursor = Cursor(NOON)
    noon, later = int(NOON.timestamp()), NOON + timedelta(seconds=30)
    first = run(task(completed_at=text(NOON)))
    [completed] = find_events(first, wanted, cursor.completed_at)
    cursor.note_completion("t1", noon)
    cursor.store(completed)
    second = run(task(completed_at=text(later)), last_updated=text(later))
    events = find_events(second, wanted, cursor.completed_at)
    assert [event.id for event in events if cursor.is_new(event)] == [
        "task.reopened/t1/20261125T120000Z",
        "task.completed/t1/20261125T120030Z",
    ]
    for event in events:
        cursor.store(event)
    assert not any(map(cursor.is_new, find_events(second, wanted, cursor.completed_at)))


def payload_of(shown, name, *, form_values=False):
    [event] = find_events(shown, EventFilter((name,)))
    return to_payload(event, shown, "org", form_values=form_values)


def test_payload_has_the_documented_fields_only():
    shown = run(
        task(completed_at=text(NOON), taskdata={"f": "secret"}, summary="secret", completer_id=7),
        summary="secret",
        prerun={"f": "secret"},
        name="n" * 5000,
    )
    payload = payload_of(shown, "task.completed")
    assert list(payload) == ["event", "event_id", "occurred_at", "organization", "run", "task"]
    assert payload["task"]["completed_by"] == {"id": 7, "name": None, "email": None}
    assert "secret" not in json.dumps(payload)
    assert len(payload["run"]["name"]) <= MAX_NAME + 1
    assert payload_of(run(completed_at=text(NOON)), "process.completed")["task"] is None


def test_payload_bounds_the_name_of_a_person():
    person = {"id": 7, "full_name": "n" * 5000, "email": {"address": "x" * 5000}}
    shown = run(task(completed_at=text(NOON), completer_id=7, owners={"users": [person]}))
    completed_by = payload_of(shown, "task.completed")["task"]["completed_by"]
    assert completed_by["name"].startswith("nnn")
    assert len(completed_by["name"]) <= MAX_NAME + 1
    assert completed_by["email"] is None


def test_payload_leaves_out_long_form_values():
    field = {"id": "f", "alias": "answer", "label": "Answer", "field_type": "textarea"}
    values = {"form_fields": {"data": [field]}, "taskdata": {"f": "x" * 100}}
    shown = run(task(completed_at=text(NOON), **values))
    assert payload_of(shown, "task.completed", form_values=True)["task"]["form_values"] == {
        "answer": "x" * 100
    }
    values["taskdata"]["f"] = "x" * (MAX_FORM_VALUES + 1)
    payload = payload_of(shown, "task.completed", form_values=True)
    assert payload["task"]["form_values"] is None
    assert str(MAX_FORM_VALUES // 1000) in payload["task"]["form_values_left_out"]


def test_payload_can_be_stored_in_any_database():
    shown = run(name="a\0b\ud800", completed_at=text(NOON), owner_id=2**70)
    payload = payload_of(shown, "process.completed")
    assert json.dumps(payload).encode()
    assert "\0" not in payload["run"]["name"]
    assert payload["run"]["owner_id"] == str(2**70)
