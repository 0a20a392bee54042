"""The tables of parameters, and the docstrings, say what the signatures say."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.notifications import tallyfy as notifications
from airflow_provider_tallyfy.operators import tallyfy as operators
from airflow_provider_tallyfy.sensors import tallyfy as sensors
from tests.unit.documentation.pages import ROOT, tables

PAGE = ROOT / "docs" / "operators-and-sensors.md"
CLASSES = [
    operators.TallyfyGetRunOperator,
    sensors.TallyfyNextTaskSensor,
    sensors.TallyfyTaskSensor,
    sensors.TallyfyRunSensor,
    operators.TallyfyLaunchRunOperator,
    operators.TallyfyCompleteTaskOperator,
    operators.TallyfyApprovalOperator,
    operators.TallyfyBranchOperator,
    operators.TallyfyApiOperator,
    notifications.TallyfyLaunchRunNotifier,
    notifications.TallyfyCommentNotifier,
    notifications.TallyfyIssueNotifier,
]
REQUIRED = inspect.Parameter.empty
#: Defaults that come from Airflow's configuration.
CONFIGURED = {"deferrable": "`[operators] default_deferrable`", "timeout": "`[sensors] default_timeout`"}
#: What Airflow takes away from every operator; ours gets it under another name.
LITERAL = re.compile(r"`([^`]+)`")


def parameters(kind):
    """Return the parameters that are ours, with their defaults."""
    found = {}
    for base in kind.__mro__:
        if base.__module__.startswith("airflow_provider_tallyfy.") and "__init__" in vars(base):
            for name, parameter in inspect.signature(base.__init__).parameters.items():
                if parameter.kind is parameter.KEYWORD_ONLY:
                    found.setdefault(name, parameter.default)
    return found


def templated(kind):
    return set(kind.template_fields)


def rows(kind):
    """Return the default and the text of each parameter, as the page has them."""
    under = {kind.__name__, "Notifiers"} if kind.__module__ == notifications.__name__ else {kind.__name__}
    found = [table for heading, table in tables(PAGE) if heading in under and table[0][0] == "parameter"]
    position = [each for each in CLASSES if each.__module__ == notifications.__name__]
    table = found[position.index(kind) if kind in position else 0]
    return {name: (default, text) for names, default, text in table[1:] for name in LITERAL.findall(names)}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
class TestParameters:
    def test_all_are_in_the_table_and_no_others(self, kind):
        assert set(rows(kind)) == set(parameters(kind))

    def test_defaults(self, kind):
        for name, (said, _) in rows(kind).items():
            default = parameters(kind)[name]
            if default is REQUIRED:
                assert said == "", name
            elif name in CONFIGURED:
                assert said == CONFIGURED[name]
            elif default is None:  # what it stands for is said in words
                assert said, name
                assert not LITERAL.fullmatch(said), name
            else:
                assert ast.literal_eval(LITERAL.fullmatch(said)[1]) == default, name

    def test_what_is_templated(self, kind):
        assert {name for name, (_, text) in rows(kind).items() if text.endswith("; templated")} == templated(
            kind
        )

    def test_the_docstring_has_them(self, kind):
        fields = re.findall(r":param (\w+):((?:(?!\n:).)*)", inspect.cleandoc(kind.__doc__), re.DOTALL)
        described = {name: " ".join(text.split()) for name, text in fields}
        gates = (operators.TallyfyApprovalOperator, operators.TallyfyBranchOperator)
        inherited = {"end_from_trigger"} if kind in gates else set()
        assert set(described) == set(parameters(kind)) - inherited
        if kind is not notifications.TallyfyLaunchRunNotifier:  # which says once that all are
            assert {name for name, text in described.items() if "(templated" in text} == templated(kind)
        if kind.__module__ == operators.__name__:
            optional = {name for name, default in parameters(kind).items() if default is not REQUIRED}
            assert all("default" in described[name].lower() for name in optional - inherited)


def test_every_public_class_has_a_section():
    public = {
        name
        for module in (operators, sensors, notifications)
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and name.startswith("Tallyfy")
    }
    bases = {"TallyfySensor", "TallyfyNotifier"}
    assert {kind.__name__ for kind in CLASSES} == public - bases


def public_methods():
    return [
        pytest.param(value, id=name)
        for name, value in vars(TallyfyHook).items()
        if not name.startswith("_") and inspect.isfunction(value)
    ]


@pytest.mark.parametrize("method", public_methods())
def test_the_methods_of_the_hook_have_their_parameters(method):
    signature = list(inspect.signature(method).parameters.values())[1:]
    fields = re.findall(r":param (\w+):((?:(?!\n:).)*)", inspect.cleandoc(method.__doc__), re.DOTALL)
    assert [name for name, _ in fields] == [parameter.name for parameter in signature]
    for parameter in signature:
        assert parameter.default is REQUIRED or "default" in dict(fields)[parameter.name].lower()
