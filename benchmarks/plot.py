"""The figures as a picture, for the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.case import PLAIN, TLS
from benchmarks.contenders import HTTP, OURS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_COLOURS = {OURS: "#0b6e4f", HTTP: "#c8553d"}
_LINES = {TLS: "-", PLAIN: "--"}
_PANELS: tuple[tuple[str, Callable[[Mapping[str, Any]], float | None]], ...] = (
    ("Requests in {window:.0f} s", lambda case: case["requests"]),
    ("CPU in {window:.0f} s (s)", lambda case: case["cpu_seconds"]),
    ("Event loop late, 99th percentile (ms)", lambda case: case["lateness_ms"]["p99"]),
    ("From completion to wake-up, worst (s)", lambda case: case["wake_up_seconds"]["worst"]),
)


def draw(cases: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw four panels over the number of waits, of all cases that did not fail."""
    # Slow to import, and in the development tools only.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    done = [case for case in cases if not case.get("failure")]
    if not done:
        return
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    window = done[0]["window"]
    for axes, (title, value) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for contender, colour in _COLOURS.items():
            for transport, line in _LINES.items():
                points = [
                    (case["waits"], figure_)
                    for case in done
                    if (case["contender"], case["transport"]) == (contender, transport)
                    and (figure_ := value(case)) is not None
                ]
                if points:
                    waits, figures = zip(*sorted(points), strict=True)
                    label = f"{contender}, {transport}"
                    axes.plot(waits, figures, line, color=colour, marker="o", markersize=4, label=label)
        axes.set_title(title.format(window=window), fontsize=11, loc="left")
        axes.set_xscale("log")
        if title is not _PANELS[-1][0]:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel("waits")
        axes.grid(visible=True, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        ticks = sorted({case["waits"] for case in done})
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.set_xticks([], minor=True)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
