"""
One real Airflow for all system tests of a session, also if pytest-xdist runs them side by side.

With ``--production`` it is an Airflow on PostgreSQL, Redis, two Celery workers and two triggerers. Tests that kill its
parts start another one, or need ``--production``.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.environment import Environment, running_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The files that take longest, in this order; they are to begin first.
LONGEST = (
    "test_next_task_sensor.py",
    "test_gates.py",
    "test_zero_worker.py",
    "test_notifiers.py",
)
ENVIRONMENT = pytest.StashKey[Environment]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))
    if not config.getoption("production"):
        skip = pytest.mark.skip(reason="needs the production shape: make test-production")
        for item in items:
            if item.get_closest_marker("production"):
                item.add_marker(skip)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Start the environment before the first worker of pytest-xdist, and pass its address to each."""
    config: pytest.Config = node.config
    if ENVIRONMENT not in config.stash:
        stack = ExitStack()
        config.add_cleanup(stack.close)
        config.stash[ENVIRONMENT] = stack.enter_context(running_environment())
    node.workerinput["environment"] = config.stash[ENVIRONMENT].address


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest) -> Iterator[Environment]:
    if address := getattr(request.config, "workerinput", {}).get("environment"):
        yield Environment.join(address)
    else:
        with running_environment(production=request.config.getoption("production")) as environment:
            yield environment
