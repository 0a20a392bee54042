"""Plots of the figures, for the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Line = Sequence[tuple[float, float]]

_STYLES = (("-", "#0b6e4f"), ("--", "#c8553d"), ("-", "#3d6cc8"), ("--", "#8a6d00"))


def draw(path: Path, subject: str, panels: Mapping[str, Mapping[str, Line]]) -> None:
    """
    Draw panels beside each other.

    :param subject: what is counted on the horizontal axis
    :param panels: the lines of each panel by their labels, by the panel's title. The vertical axis is logarithmic,
        unless the title ends with ``(s)``.
    """
    # Slow to import, and in the development tools only.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(10, 0.7 + 3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, lines) in zip(figure.subplots(rows, 2).flat, panels.items(), strict=False):
        for style, (label, line) in zip(_STYLES, lines.items(), strict=False):
            axes.plot(
                *zip(*line, strict=True), style[0], color=style[1], marker="o", markersize=4, label=label
            )
        axes.set_title(title, fontsize=11, loc="left")
        axes.set_xscale("log")
        if title.endswith("(s)"):
            axes.set_ylim(bottom=0)
        else:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        ticks = sorted({x for line in lines.values() for x, _ in line})
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(subject)
        axes.grid(visible=True, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
