"""
Errors for values that cannot be sent.

All values are checked before anything is sent, and one error lists all problems and the choices. Tallyfy itself drops
what it does not know without an error.
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_tallyfy.protocol.formatting import MAX_LISTED


class InvalidValueError(ValueError):
    """
    One value cannot be sent.

    :param problems: what is wrong with it, a sentence each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class FormValuesError(ValueError):
    """
    Some values cannot be sent.

    :param problems: all that is wrong, a sentence each.
    :param choices: the possible names, in lines; shown after the problems.
    """

    def __init__(self, problems: Sequence[str], choices: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        self.choices = tuple(choices)
        count = "one thing is" if len(self.problems) == 1 else f"{len(self.problems)} things are"
        lines = [f"Nothing was sent, since {count} wrong with the values:"]
        lines += [f"- {problem}" for problem in self.problems[:MAX_LISTED]]
        if (more := len(self.problems) - MAX_LISTED) > 0:
            lines.append(f"- and {more} more")
        super().__init__("\n".join([*lines, *self.choices]))

    def __reduce__(self) -> tuple[type[FormValuesError], tuple[Sequence[str], Sequence[str]]]:
        # Airflow carries exceptions from process to process.
        return type(self), (self.problems, self.choices)


def choices(things: str, names: Sequence[str]) -> list[str]:
    """
    Return the lines of a message that list all choices, or the first fifty.

    :param things: their plural, such as ``fields``.
    """
    if not names:
        return [f"There are no {things}."]
    more = [f"  and {len(names) - MAX_LISTED} more"] if len(names) > MAX_LISTED else []
    return [f"The {things} are:", *(f"  {name}" for name in names[:MAX_LISTED]), *more]
