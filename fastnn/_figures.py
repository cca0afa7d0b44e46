"""What all plots share: colours, Axes, their dress. matplotlib is imported when one is drawn.

Nothing here chooses a matplotlib backend. Pictures for files are drawn on a plain Figure (`new_axes`, `save`), which
needs no display. Colours: Okabe and Ito, Color Universal Design (2008).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
MARKERS = "os^DvPX*"
INK, GRID = "#333333", "#DDDDDD"


def require_matplotlib() -> None:
    """Raise a one-line ImportError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'fastnn-kernels[plot]'") from None


def new_axes(width: float = 7.0, height: float = 4.2) -> Axes:
    """Return Axes on a Figure of its own (inches) that belongs to no window and no pyplot state."""
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def save(ax: Axes, path: str | os.PathLike[str]) -> None:
    """Write the figure of `ax` to a file; its ending tells the format (PNG, SVG, PDF)."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, dpi=150)


def axes_or_current(ax: Axes | None) -> Axes:
    require_matplotlib()
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.gca()


def shown(ax: Axes, show: bool) -> Axes:
    if show:
        import matplotlib.pyplot as plt

        plt.show()
    return ax


def dress(ax: Axes, xlabel: str, ylabel: str, title: str | None) -> None:
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if title:
        ax.set_title(title, loc="left", fontsize="medium", color=INK)
    ax.grid(True, color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
