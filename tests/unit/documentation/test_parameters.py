"""The docstrings, from which the pages are built, describe the parameters of the signatures."""

from __future__ import annotations

import inspect
import re

import pytest

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.notifications import tallyfy as notifications
from airflow_provider_tallyfy.operators import tallyfy as operators
from airflow_provider_tallyfy.sensors import tallyfy as sensors
from airflow_provider_tallyfy.transfers import tallyfy_to_object_storage as transfers
from airflow_provider_tallyfy.triggers import tallyfy as triggers
from tests.unit.documentation.pages import DOCS

REQUIRED = inspect.Parameter.empty
BASES = {"TallyfySensor", "TallyfyNotifier"}
CLASSES = [
    value
    for module in (operators, sensors, notifications, transfers)
    for name, value in vars(module).items()
    if inspect.isclass(value) and value.__module__ == module.__name__ and name.startswith("Tallyfy")
    if name not in BASES
]


def parameters_of(class_):
    """Return the parameters of this project's constructors with their defaults."""
    found = {}
    for base in class_.__mro__:
        if base.__module__.startswith("airflow_provider_tallyfy.") and "__init__" in vars(base):
            for name, parameter in inspect.signature(base.__init__).parameters.items():
                if parameter.kind is parameter.KEYWORD_ONLY:
                    found.setdefault(name, parameter.default)
    return found


def documented(object_):
    """Return the descriptions of the parameters in a docstring."""
    fields = re.findall(r":param (\w+):((?:(?!\n:).)*)", inspect.cleandoc(object_.__doc__), re.DOTALL)
    return {name: " ".join(text.split()) for name, text in fields}


@pytest.mark.parametrize("class_", CLASSES, ids=lambda class_: class_.__name__)
class TestDocstring:
    def test_describes_every_parameter(self, class_):
        is_gate = issubclass(class_, (operators.TallyfyApprovalOperator, operators.TallyfyBranchOperator))
        inherited = {"end_from_trigger"} if is_gate else set()  # has no effect there
        assert set(documented(class_)) == set(parameters_of(class_)) - inherited

    def test_names_templated_parameters(self, class_):
        if class_ is not notifications.TallyfyLaunchRunNotifier:  # says once that all are
            marked = {name for name, text in documented(class_).items() if "(templated" in text}
            assert marked == set(class_.template_fields)

    def test_names_defaults(self, class_):
        if class_.__module__ == operators.__name__:
            optional = {name for name, default in parameters_of(class_).items() if default is not REQUIRED}
            texts = documented(class_)
            assert [name for name in optional & set(texts) if "default" not in texts[name].lower()] == []


def test_every_public_class_has_a_page():
    pages = [page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md")]
    public = [
        *CLASSES,
        *(value for name, value in vars(triggers).items() if re.fullmatch(r"Tallyfy\w+Trigger", name)),
    ]
    for class_ in public:
        name = class_.__name__
        assert any(f"# {name}\n" in page and f".{name}\n```" in page for page in pages), name


def public_methods():
    return [
        pytest.param(value, id=name)
        for name, value in vars(TallyfyHook).items()
        if not name.startswith("_") and inspect.isfunction(value)
    ]


@pytest.mark.parametrize("method", list(public_methods()))
def test_docstring_of_hook_method_describes_every_parameter(method):
    signature = list(inspect.signature(method).parameters.values())[1:]
    texts = documented(method)
    assert list(texts) == [parameter.name for parameter in signature]
    for parameter in signature:
        assert parameter.default is REQUIRED or "default" in texts[parameter.name].lower()
