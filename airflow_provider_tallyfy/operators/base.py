"""What all operators have in common."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook


class TallyfyOperator(BaseOperator):
    """
    An operator with an Airflow connection to Tallyfy.

    :param tallyfy_conn_id: id of the Airflow connection. (templated, where an operator names it so)
    """

    ui_color = "#e8f5ee"

    def __init__(self, *, tallyfy_conn_id: str = "tallyfy_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tallyfy_conn_id = tallyfy_conn_id

    @cached_property
    def hook(self) -> TallyfyHook:
        """The hook, made at the first use: DAG files are parsed all day, and need no ``requests`` for that."""
        from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

        return TallyfyHook(self.tallyfy_conn_id)


class OwnParams(type(BaseOperator)):  # type: ignore[misc]  # Airflow's metaclass stands elsewhere in each version
    """
    Lets an operator have a parameter ``params`` of its own, which it gets as ``query``.

    Airflow takes ``params`` away from every operator and mixes the DAG's parameters in, so what belongs to the operator
    is set aside before. Of a mapped task Airflow mixes them beforehand, and the DAG's are taken out again.
    """

    def __call__(cls, *args: Any, params: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        """Make the operator."""
        if params is not None and not isinstance(params, Mapping):  # another task's output, or a template
            kwargs.setdefault("query", params)
            params = None
        own = dict(params or {})
        if kwargs.get("_airflow_from_mapped") and params is not None:
            of_the_dag = getattr(kwargs.get("dag"), "params", None) or {}
            given = {name: params[name] for name in params}
            own = {name: value for name, value in given.items() if _is_own(name, value, of_the_dag)}
        if own:
            kwargs.setdefault("query", own)
        return super().__call__(*args, **kwargs)


def _is_own(name: str, value: Any, of_the_dag: Mapping[str, Any]) -> bool:
    return name not in of_the_dag or of_the_dag[name] != value
