"""The figures as tables, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rich.console import Console

#: The interval counts as held if so many of the looks that were due were made.
_HELD = 0.8


def show(console: Console, results: Mapping[str, Any]) -> None:
    """Print all there is."""
    if results["cases"]:
        settings = results["settings"]
        console.print(_cases(results["cases"]))
        console.print(
            f"  Window {settings['seconds']:g} s, interval {settings['interval']:g} s, begun within "
            f"{settings['spread']:g} s, twice as many active runs as waits. Begin: until each wait has looked once."
        )
        for note in notes(results["cases"]):
            console.print(f"  {note}", highlight=False, markup=False)
    if results["idle"]:
        console.print(_idle(results["idle"]))
    if results["imports"]:
        console.print(_imports(results["imports"]))
    if results.get("crowd"):
        console.print(_crowd(results["crowd"]))
        console.print(f"  {dag_sizes(results['crowd'])}")
    console.print(machine(results), highlight=False)


def _cases(cases: Iterable[Mapping[str, Any]]) -> Table:
    columns = (
        "transport",
        "waits",
        "trigger",
        "requests\nto begin",
        "in the\nwindow",
        "in all",
        "CPU s\nto begin",
        "in the\nwindow",
        "KiB per\nwait",
        "loop late ms\np50 · p99",
        "wake-up s\nmedian · worst",
        "missed",
        "false",
    )
    table = Table(title="Waits", title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in ("transport", "trigger") else "right")
    previous = None
    for case in cases:
        if (group := (case["transport"], case["waits"])) != previous and previous is not None:
            table.add_section()
        previous = group
        table.add_row(case["transport"], f"{case['waits']:,}", case["contender"], *figures(case))
    return table


def figures(case: Mapping[str, Any]) -> Iterator[str]:
    """Give the figures of a case, in the order of the columns."""
    if case.get("failure"):
        yield "failed: see below"
        return
    begin, wake_up = case["begin"], case["wake_up_seconds"]
    yield f"{begin['requests']:,}"
    yield f"{case['requests']:,}{'' if _is_held(case) else ' *'}"
    yield f"{case['requests_in_total']:,}"
    yield f"{begin['cpu_seconds']:.2f}"
    yield f"{case['cpu_seconds']:.2f}"
    yield f"{case['memory_bytes_per_wait'] / 1024:,.1f}"
    yield f"{case['lateness_ms']['p50']:.1f} · {case['lateness_ms']['p99']:.1f}"
    yield "none" if wake_up["median"] is None else f"{wake_up['median']:.1f} · {wake_up['worst']:.1f}"
    yield f"{case['changes_missed']} of {case['changes']}"
    yield str(case["false_wake_ups"])


def _is_held(case: Mapping[str, Any]) -> bool:
    due: int | None = case["looks_due"]
    return due is None or case["requests"] >= due * _HELD


def notes(cases: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Give a line for each case of which there is more to say."""
    for case in cases:
        name = f"{case['contender']}, {case['waits']:,} waits over {case['transport']}"
        if case.get("failure"):
            yield f"! {name}: {case['failure']}"
            continue
        if not _is_held(case):
            yield (
                f"* {name}: {case['requests']:,} of {case['looks_due']:,} looks that were due; every "
                f"{case['seconds_between_looks']:.1f} s on average. Processor at work: "
                f"{case['cpu_seconds'] / case['window']:.0%} for the trigger, "
                f"{case['sandbox_cpu_seconds'] / case['window']:.0%} for the sandbox."
            )
        if case["begin"]["waits_never_looked_at"]:
            yield f"! {name}: {case['begin']['waits_never_looked_at']:,} waits had not looked when the window began."
        if case["waits_that_failed"]:
            yield f"! {name}: {case['waits_that_failed']:,} waits failed: {'; '.join(case['errors'])}"


def _idle(idle: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(
        "trigger", "KiB per wait", "CPU s a minute, with the probe", title="Idle waits", title_justify="left"
    )
    for each in idle:
        kilobytes = f"{each['memory_bytes_per_wait'] / 1024:.1f}"
        table.add_row(
            f"{each['contender']}, {each['waits']:,}", kilobytes, str(each["cpu_seconds_per_minute"])
        )
    return table


CROWD_HEADINGS = (
    "moment",
    "seconds",
    "requests",
    "CPU s, triggers · supervisor",
    "MiB, triggers · supervisor",
    "loop late ms",
    "by this provider",
)
_MOMENTS = {
    "begin": "all begin",
    "window": "all wait",
    "restart": "the triggerer is restarted",
    "complete": "all tasks are completed at once",
}


def crowd_rows(crowd: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Give a row for each moment in the life of the waits of a real triggerer."""
    for moment, words in _MOMENTS.items():
        each = crowd[moment]
        cpu, memory = each["cpu_seconds"], each["memory_mib"]
        yield (
            words,
            f"{each['seconds']:.0f}",
            f"{each['requests']:,}",
            f"{cpu['runner']:.1f} · {cpu['supervisor']:.1f}",
            f"{memory['runner']:,} · {memory['supervisor']:,}",
            f"{each['late_ms']:,}",
            f"{each['late_ms_ours']:,}",
        )


def crowd_title(crowd: Mapping[str, Any]) -> str:
    """Return what the rows are about."""
    return (
        f"{crowd['in_triggerer']:,} waits begun in a real triggerer and {crowd['by_workers']:,} begun by workers; its "
        f"supervisor is stopped for {crowd['stop']:g} s at each moment. Ended wrongly: {crowd['wrong']}"
    )


def dag_sizes(crowd: Mapping[str, Any]) -> str:
    """Return what memory a wait takes that begins in the triggerer, by the size of its DAG."""
    sizes = "; ".join(
        f"{each['sensors']} sensors: {each['mib_per_wait']['runner']:.2f} · {each['mib_per_wait']['supervisor']:.2f}"
        for each in crowd["dag_sizes"]
    )
    return (
        f"MiB for each wait that begins in the triggerer (triggers · supervisor), by the DAG's size: {sizes}."
    )


def _crowd(crowd: Mapping[str, Any]) -> Table:
    table = Table(*CROWD_HEADINGS, title=crowd_title(crowd), title_justify="left")
    for row in crowd_rows(crowd):
        table.add_row(*row)
    return table


def _imports(imports: Mapping[str, Any]) -> Table:
    title = f"Imports, beyond Airflow's base classes ({imports['base_classes_ms']:,.0f} ms)"
    table = Table("module", "ms", title=title, title_justify="left")
    for module, milliseconds in imports["beyond_ms"].items():
        table.add_row(module, f"{milliseconds:.1f}")
    return table


def machine(results: Mapping[str, Any]) -> str:
    """Return on what it was measured, and by what command."""
    where = results["machine"]
    packages = where["packages"]
    return (
        f"{where['processor']}, {where['cores']} cores, {where['memory_gib']} GiB; Python {where['python']}, "
        f"Airflow {packages['apache-airflow']}, HTTP provider {packages['apache-airflow-providers-http']}; "
        f"{results['command']}"
    )
