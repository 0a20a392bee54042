"""A sensor that a Celery worker deferred, with the metadata in PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.environment import Environment

pytestmark = [pytest.mark.system, pytest.mark.production]


def test_completed_task_wakes_the_deferred_sensor(environment: Environment) -> None:
    wait = environment.wait_in("next_task_deferred")
    wait.until("deferred")

    wait.moves_on()
