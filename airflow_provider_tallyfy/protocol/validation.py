"""
What is wrong with values that cannot be sent.

All values are checked before anything is sent, and one error says everything that is wrong and what there is to choose
from. Tallyfy itself drops what it does not know without an error.
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_tallyfy.protocol.formatting import MAX_LISTED


class InvalidValueError(ValueError):
    """
    One value does not fit its place.

    :param problems: what is wrong with it, a sentence each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class FormValuesError(ValueError):
    """
    Values cannot be sent.

    :param problems: all that is wrong, a sentence each.
    :param choices: what there is to choose from, in lines; shown after the problems.
    """

    def __init__(self, problems: Sequence[str], choices: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        self.choices = tuple(choices)
        super().__init__(self._message())

    def _message(self) -> str:
        lines = [f"Nothing was sent, since {_counted(len(self.problems))} wrong with the values:"]
        lines += [f"- {problem}" for problem in self.problems[:MAX_LISTED]]
        if (more := len(self.problems) - MAX_LISTED) > 0:
            lines.append(f"- and {more} more")
        return "\n".join([*lines, *self.choices])

    def __reduce__(self) -> tuple[type[FormValuesError], tuple[Sequence[str], Sequence[str]]]:
        # Airflow carries exceptions from process to process.
        return type(self), (self.problems, self.choices)


def choices(title: str, names: Sequence[str]) -> list[str]:
    """Return the lines that say what there is to choose from, at most fifty of them."""
    if not names:
        return []
    more = [f"  and {len(names) - MAX_LISTED} more"] if len(names) > MAX_LISTED else []
    return [title, *(f"  {name}" for name in names[:MAX_LISTED]), *more]


def _counted(number: int) -> str:
    return "one thing is" if number == 1 else f"{number} things are"
