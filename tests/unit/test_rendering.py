"""In a DAG that renders to native objects, texts arrive as they were written, and objects as they were."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from airflow.providers.common.compat.sdk import DAG
from jinja2 import UndefinedError

import airflow_provider_tallyfy.operators.tallyfy as operators
import airflow_provider_tallyfy.sensors.tallyfy as sensors
from airflow_provider_tallyfy.notifications.tallyfy import TallyfyLaunchRunNotifier
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApiOperator, TallyfyLaunchRunOperator
from airflow_provider_tallyfy.rendering import TextPreservingTemplates
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyTaskSensor

START = datetime(2026, 1, 5, 17, tzinfo=UTC)
CONTEXT = {
    "version": "1.10",
    "number": "1_000",
    "count": 3,
    "empty": None,
    "rows": [{"id": "007"}],
    "start": START,
    "title": "2024",
    "yes": "True",
}
TEXTS = [
    "2024",
    "1.10",
    "1_000",
    "True",
    "None",
    "0x10",
    "007",
    "1e5",
    "'a'",
    "(1, 2)",
    "[Draft]",
    "{a}",
    "[",
    " 1 ",
]


@pytest.fixture(params=[True, False], ids=["native", "text"])
def dag(request):
    with DAG("dag", schedule=None, start_date=START, render_template_as_native_obj=request.param) as dag:
        yield dag


@pytest.fixture
def native():
    with DAG("native", schedule=None, start_date=START, render_template_as_native_obj=True) as dag:
        yield dag


def rendered(operator, dag):
    operator.render_template_fields({**CONTEXT, "dag": dag})
    return operator


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_kept(dag, text):
    launch = TallyfyLaunchRunOperator(task_id="t", checklist_id=text, name=text, kickoff={"Version": [text]})
    assert rendered(launch, dag).name == text
    assert (launch.checklist_id, launch.kickoff) == (text, {"Version": [text]})
    assert rendered(TallyfyTaskSensor(task_id="s", run_id="r1", task=text), dag).task == text


@pytest.mark.parametrize("text", TEXTS)
def test_text_of_a_variable_is_kept(dag, text):
    sensor = TallyfyTaskSensor(task_id="s", run_id="r1", task="{{ text }}")
    sensor.render_template_fields({"text": text, "dag": dag})
    assert sensor.task == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ version }}", "1.10"),
        ("{{ title }}{{ number }}", "20241_000"),
        ("{{ count }}.{{ count }}0", "3.30"),
        ("{% set it %}{{ version }}{% endset %}{{ it }}", "1.10"),
        ("{% if yes %}{{ yes }}{% endif %}", "True"),
        ("{% macro it() %}1.10{% endmacro %}{{ it() }}", "1.10"),
    ],
)
def test_several_parts_make_a_text(dag, template, text):
    assert rendered(TallyfyTaskSensor(task_id="s", run_id="r1", task=template), dag).task == text


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ count }}", 3),
        ("{{ empty }}", None),
        ("{{ start }}", START),
        ("{{ rows }}", [{"id": "007"}]),
        ("{{ rows[0] }}", {"id": "007"}),
        ("['{{ title }}', 'b']", ["2024", "b"]),
        ("{'a': {{ count }}}", {"a": 3}),
        (" {{ rows | string }}\n", [{"id": "007"}]),
    ],
)
def test_objects_lists_and_mappings_are_objects(native, template, value):
    launch = TallyfyLaunchRunOperator(task_id="t", checklist_id="c1", kickoff={"Rows": template})
    assert rendered(launch, native).kickoff == {"Rows": value}


def test_unknown_variable_is_an_error(dag):
    with pytest.raises(UndefinedError, match="nothing"):
        rendered(TallyfyTaskSensor(task_id="s", run_id="r1", task="{{ nothing }}"), dag)


def test_mapped_task(native):
    mapped = TallyfyApiOperator.partial(task_id="t", query={"q": "{{ version }}"}).expand(endpoint=["2024"])
    operator = mapped.unmap({"endpoint": "2024"})
    operator._do_render_template_fields(
        operator, mapped.template_fields, dict(CONTEXT), operator.get_template_env(), set()
    )
    assert (operator.endpoint, operator.query) == ("2024", {"q": "1.10"})


def test_notifier(native):
    notifier = TallyfyLaunchRunNotifier(
        checklist_id="2024", name="{{ version }}", kickoff={"Version": "1.10", "Start": "{{ start }}"}
    )
    launch = notifier._rendered({**CONTEXT, "dag": native})
    assert (launch.checklist_id, launch.name) == ("2024", "1.10")
    assert launch.kickoff == {"Version": "1.10", "Start": START}


@pytest.mark.parametrize("module", [operators, sensors])
def test_every_operator_and_sensor_keeps_texts(module):
    classes = [
        each for name, each in vars(module).items() if name.startswith("Tallyfy") and isinstance(each, type)
    ]
    assert classes
    for each in classes:
        if hasattr(each, "template_fields"):
            assert issubclass(each, TextPreservingTemplates)
