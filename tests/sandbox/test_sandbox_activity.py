from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID

DOCUMENTED_KEYS = {
    *("id", "organization_id", "verb", "source", "actor_type", "actor_id", "actor", "auditable_type"),
    *("auditable_id", "parentable_type", "parentable_id", "type", "description", "field", "old_value"),
    *("created_at", "text", "references", "undoable", "audit", "parent", "origin"),
}


def feed(client, **params):
    query = {"entity_type": "run", "entity_id": SEEDED_RUN_ID, "sort": "-created_at", **params}
    return client.data("/activity-feeds", **query)


def test_an_entry_has_exactly_the_documented_keys(client):
    client.complete(SEEDED_RUN_ID, "announce_release")
    task = client.tasks(SEEDED_RUN_ID)["announce_release"]
    entry = feed(client)[0]
    assert entry.keys() == DOCUMENTED_KEYS
    assert (entry["verb"], entry["type"], entry["actor_id"]) == (["completed"], ["Task"], [1001])
    assert (entry["auditable_type"], entry["auditable_id"]) == ("App\\Models\\Task", task["id"])
    assert (entry["parentable_type"], entry["parentable_id"]) == ("App\\Models\\Run", SEEDED_RUN_ID)
    assert entry["description"] == ["Completed task: Announce release"]
    completed, written, now = (
        datetime.fromisoformat(each).replace(microsecond=0, tzinfo=UTC)
        for each in (task["completed_at"], entry["created_at"], client.control("GET", "/clock")["now"])
    )
    assert completed <= written <= now
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", entry["created_at"])  # without a zone


def test_feed_of_a_run_newest_first(client):
    client.decide(SEEDED_RUN_ID, is_approved=False)
    task_id = client.tasks(SEEDED_RUN_ID)["approve_release"]["id"]
    client.delete(f"/runs/{SEEDED_RUN_ID}/completed-tasks/{task_id}")
    client.post(f"/tasks/{task_id}/comment", {"content": "Why?"})
    client.delete(f"/runs/{SEEDED_RUN_ID}")
    client.put(f"/runs/{SEEDED_RUN_ID}/activate")
    recorded = [
        (entry["verb"][0], entry["auditable_type"].rpartition("\\")[2]) for entry in reversed(feed(client))
    ]
    assert recorded == [
        ("created", "Run"),
        ("completed", "Task"),
        ("updated", "Task"),
        ("completed", "Task"),
        ("disabled", "Task"),
        ("completed", "Run"),
        ("re-opened", "Task"),
        ("enabled", "Task"),
        ("re-opened", "Run"),
        ("commented", "Task"),
        ("archived", "Run"),
        ("unarchived", "Run"),
    ]
    assert feed(client, sort="") == feed(client, sort="created_at") == feed(client)[::-1]
    by_rules = {entry["verb"][0] for entry in feed(client) if entry["type"] == ["execution"]}
    assert by_rules == {"disabled", "enabled"}


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"verb": "completed"}, 1),
        ({"verb": "archived"}, 0),
        ({"type": "Process"}, 1),
        ({"type": "Task"}, 1),
        ({"actor_id": 1003}, 1),
        ({"actor_email": "ben@example.com"}, 1),
        ({"actor_email": "nobody@example.com"}, 0),
        ({"actor_type": "guest"}, 0),
        ({"source": "Member"}, 2),
        ({"search": "launched"}, 1),
    ],
)
def test_filters(client, filters, found):
    assert len(feed(client, **filters)) == found


def test_filter_by_day(client):
    today = client.control("GET", "/clock")["now"][:10]
    client.advance(days=3)
    client.complete(SEEDED_RUN_ID, "announce_release")
    later = client.control("GET", "/clock")["now"][:10]
    assert [entry["verb"] for entry in feed(client, created_after=later)] == [["completed"]]
    assert len(feed(client, created_before=today)) == 2


def test_filter_by_task_and_paging(client):
    task_id = client.tasks(SEEDED_RUN_ID)["prepare_release_notes"]["id"]
    answer = client.get("/activity-feeds", entity_type="task", entity_id=task_id)
    assert len(answer["data"]) == 1
    assert answer["meta"]["pagination"]["per_page"] == 20
    everything = client.get("/activity-feeds", per_page=3)["meta"]["pagination"]
    assert everything["total_pages"] == -(-everything["total"] // 3)


def test_late_feed(client):
    client.control("POST", "/activity", {"delay": 60})
    client.complete(SEEDED_RUN_ID, "announce_release")
    assert len(feed(client)) == 2
    client.advance(seconds=61)
    assert len(feed(client)) == 3


def test_feed_without_entries_of_a_verb(client):
    client.control("POST", "/activity", {"missing": ["completed"]})
    client.complete(SEEDED_RUN_ID, "announce_release")
    assert [entry["verb"] for entry in feed(client)] == [["created"]]
    client.control("POST", "/activity", {})
    assert len(feed(client)) == 3
