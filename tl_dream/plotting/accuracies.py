"""How well concepts are told apart, by layer and estimator."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from tl_dream._arguments import listed
from tl_dream._errors import require
from tl_dream.plotting.canvas import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    SKY,
    VERMILLION,
    expect,
    fill_axes,
    styled,
    themed,
)
from tl_dream.results import Evidence

ESTIMATOR_MARKS = {
    "mean": (BLUE, "o"),
    "pattern": (SKY, "s"),
    "logistic": (ORANGE, "^"),
    "svm": (GREEN, "D"),
    "lda": (VERMILLION, "v"),
}


@styled
def accuracy_by_layer(evidence: Any, *, ax: Axes | None = None) -> Axes:
    """Held-out accuracy of every estimator at every layer, with 95% intervals, over what random labels reach.

    Args:
        evidence: concepts, of one layer or several, or their evidence (`concepts.evidence`).
        ax: the Axes to draw in; None makes a figure.

    Returns:
        The Axes drawn in.

    Raises:
        DreamError: nothing to draw.
    """
    rows: list[Evidence] = listed(getattr(evidence, "evidence", evidence))
    require(bool(rows), "nothing to draw: give concepts.evidence")
    for row in rows:
        expect(row, "of a concept: give concepts or concepts.evidence", Evidence)
    host = fill_axes(ax, 5.6, 3.4)
    host.set_axis_on()
    at = list(range(len(rows)))
    names = [name for name in ESTIMATOR_MARKS if any(name in row.accuracies for row in rows)]
    for i, name in enumerate(names):
        colour, marker = ESTIMATOR_MARKS[name]
        shift = 0.13 * (i - (len(names) - 1) / 2)
        some = [(x + shift, row) for x, row in zip(at, rows, strict=True) if name in row.accuracies]
        y = [row.accuracies[name] for _, row in some]
        bars = [
            [max(0.0, value - row.intervals[name][0]) for value, (_, row) in zip(y, some, strict=True)],
            [max(0.0, row.intervals[name][1] - value) for value, (_, row) in zip(y, some, strict=True)],
        ]
        label = name + (" (the concept's)" if name == rows[0].estimator else "")
        style: dict[str, Any] = {
            "linestyle": "none",
            "markeredgecolor": themed(INK),
            "markeredgewidth": 0.5,
            "capsize": 2,
        }
        host.errorbar(
            [x for x, _ in some], y, yerr=bars, color=colour, marker=marker, markersize=5, label=label, **style
        )
    mean, best = [row.random_mean for row in rows], [row.random_best for row in rows]
    label = f"random labels, mean to best of {rows[0].random_concepts}"
    for i, x in enumerate(at):
        span: dict[str, Any] = {"color": themed(PALE), "linewidth": 0, "label": label if i == 0 else None, "zorder": 0}
        host.fill_between([x - 0.4, x + 0.4], [mean[i]] * 2, [best[i]] * 2, **span)
    host.axhline(0.5, color=themed(GREY), linestyle=":", linewidth=1.0, zorder=0)
    host.set_xticks(at, ["-" if row.layer is None else str(row.layer) for row in rows])
    low = min(0.5, *mean, *(row.intervals[name][0] for row in rows for name in row.intervals))
    host.set(
        xlabel="layer", ylabel="held-out accuracy", ylim=(max(0.0, low - 0.05), 1.03), xlim=(-0.6, len(rows) - 0.4)
    )
    host.yaxis.set_major_formatter(PercentFormatter(1.0))
    host.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, frameon=False)
    return host
