"""The commands of docs/sandbox.md work, its ids exist, and it describes each endpoint group."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
import requests

from airflow_provider_tallyfy.sandbox import application, controls
from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID, seeded_store

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^curl .+$", PAGE, re.MULTILINE)
ADDRESS = "http://127.0.0.1:8090"


def run(command: str, url: str) -> requests.Response:
    """Do what a curl command says, with those of its options that the page uses."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("address")
    parser.add_argument("-X", dest="method", default="GET")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="data", action="append", default=[])
    said = parser.parse_args(shlex.split(command))
    headers = dict(header.split(": ", 1) for header in said.headers)
    if said.data:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    return requests.request(
        said.method, said.address.replace(ADDRESS, url), headers=headers, data="&".join(said.data), timeout=10
    )


def test_each_command_works_in_the_order_of_the_page(sandbox):
    assert len(COMMANDS) > 15
    for command in COMMANDS:
        answer = run(command, sandbox.url)
        assert answer.status_code < 300, (command, answer.text)
    assert sandbox.change(lambda store: store.runs[SEEDED_RUN_ID].completed_at) is not None


def test_each_id_is_in_the_demo_data(client):
    store = seeded_store("demo")
    known = {
        SEEDED_RUN_ID,
        *store.runs,
        *store.tasks,
        *store.checklists,
        *store.groups,
        *store.tags,
        *store.folders,
    }
    for checklist in store.checklists.values():
        known |= {field.id for field in checklist.prerun}
        known |= {field.id for step in checklist.steps for field in step.captures}
    named = set(re.findall(r"\b[0-9a-f]{32}\b", PAGE))
    assert len(named) > 15
    assert named <= known
    assert {str(member) for member in store.members} <= set(re.findall(r"`(\d{4})`", PAGE))


@pytest.mark.parametrize("name", get_args(controls.FaultAction))
def test_each_action_of_a_fault_is_described(name):
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", [name.replace("_", "-") for name in Behavior.model_fields])
def test_each_behavior_is_described_as_option_and_as_control(name):
    assert f"`--{name}" in PAGE
    assert f"`{name.replace('-', '_')}`" in PAGE


def test_every_subject_of_the_api_is_described():
    routes = application.build_application(seeded_store("empty")).openapi()["paths"]
    subjects = {
        match[1]
        for path in routes
        if (match := re.match(r"/api/organizations/\{organization\}/([\w-]+)", path)) is not None
    }
    assert len(subjects) > 10
    undescribed = {subject for subject in subjects if not re.search(rf"\b{subject}\b", PAGE)}
    assert undescribed == set()
