"""What keeps a version from being released."""

from __future__ import annotations

import pytest

from airflow_provider_tallyfy import __version__
from dev.release import problems

RELEASED = f"# Changelog\n\n## [{__version__}] - 2027-01-31\n"


def test_a_tagged_version_with_a_dated_heading_can_be_released():
    assert problems(f"v{__version__}", RELEASED) == []


@pytest.mark.parametrize("tag", ["v9.9.9", __version__, f"v{__version__}rc1"])
def test_another_tag_is_refused(tag):
    [problem] = problems(tag, RELEASED)
    assert f"The tag is {tag}, but the version is {__version__}" in problem


@pytest.mark.parametrize("heading", [f"## [{__version__}] - unreleased", "## [9.9.9] - 2027-01-31", ""])
def test_a_version_without_a_dated_heading_is_refused(heading):
    [problem] = problems(None, f"# Changelog\n\n{heading}\n")
    assert "CHANGELOG.md has no heading" in problem
