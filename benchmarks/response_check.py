"""What a user writes for the HTTP provider: whether a response with a run ends the wait.

Alone in its module and without an import, since that trigger reloads the module at every poll.
"""


async def has_moved_on(response):  # type: ignore[no-untyped-def]  # a type would have to be imported
    """Return whether the next task is not the template's first one any more."""
    next_task = response.json()["data"]["next_task"]["data"]
    return not next_task or next_task[0]["alias"] != "prepare_release_notes"
