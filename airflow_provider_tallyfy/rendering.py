"""Templates that keep texts as they were written, also in a DAG with ``render_template_as_native_obj``."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template


class TextPreservingTemplates:
    """
    Renders the templates of an operator or a sensor by :func:`render`; stands before Airflow's base class.

    Without it, Airflow's native rendering evaluates every text as Python.
    """

    def _render(self, template: Template, context: Any, dag: Any = None) -> Any:
        return render(super()._render, template, context, dag)  # type: ignore[misc]


def render(airflow_render: Callable[..., Any], template: Template, context: Any, dag: Any) -> Any:
    """
    Render a template, without taking texts for Python if the DAG renders to native objects.

    Airflow would make a number of the title ``2024``, ``1.1`` of ``1.10``, ``1000`` of ``1_000``, and a boolean of
    ``True``. Here only a list or a mapping, recognized by its brackets, is evaluated. A value that is the whole of a
    template, such as ``{{ data_interval_start }}``, keeps its type.

    :param airflow_render: Airflow's own ``_render``, which provides the variables and handles errors.
    """
    from jinja2.nativetypes import NativeEnvironment

    if isinstance(template.environment, NativeEnvironment):
        parts_of = template.root_render_func

        def render_as_one(variables: Any) -> Iterator[_Rendered]:
            yield _Rendered(_join(parts_of(variables)))  # Airflow returns unchanged what is no text

        template.environment.concat = _join  # type: ignore[assignment]  # for blocks within the template
        template.root_render_func = render_as_one  # type: ignore[assignment]
    rendered = airflow_render(template, context, dag)
    return rendered.value if isinstance(rendered, _Rendered) else rendered


class _Rendered:
    def __init__(self, value: Any) -> None:
        self.value = value


def _join(parts: Iterable[Any]) -> Any:
    from jinja2 import Undefined

    parts = list(parts)
    if len(parts) == 1 and not isinstance(parts[0], (str, Undefined)):
        return parts[0]
    text = "".join(map(str, parts))
    if text.strip()[:1] + text.strip()[-1:] in ("[]", "{}"):
        try:
            value = literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
        if isinstance(value, (list, dict)):
            return value
    return text
