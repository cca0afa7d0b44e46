"""Pictures: of a training its loss curve and decision boundary, of a profile its throughput.

matplotlib is imported when one is drawn. Classes differ by colour and by marker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._figures import COLORS, INK, MARKERS, axes_or_current, dress, new_axes, save, shown
from ._plot_throughput import plot_throughput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = [
    "new_axes",
    "plot_accuracy",
    "plot_decision_boundary",
    "plot_loss",
    "plot_predictions",
    "plot_throughput",
    "save",
]


def plot_loss(
    loss_list: Sequence[float],
    ax: Axes | None = None,
    *,
    eval_interval: int | None = None,
    ylabel: str = "loss",
    title: str | None = None,
    ylim: tuple[float | None, float | None] | None = None,
    show: bool = False,
) -> Axes:
    """Draw a loss curve.

    Parameters
    ----------
    loss_list : sequence of float
        One value per `eval_interval` iterations.
    ax : matplotlib Axes, optional
        Where to draw; pyplot's current Axes otherwise.
    eval_interval : int, optional
        For the label of the horizontal axis, as in the book: ``iterations (x20)``.
    ylabel, title : str
        Texts.
    ylim : (float, float), optional
        Limits of the vertical axis; None for one of them leaves it to matplotlib.
    show : bool
        Call ``matplotlib.pyplot.show()``.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> ax = plot_loss([1.1, 0.7, 0.4], new_axes(), eval_interval=20)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('iterations (x20)', 'loss')
    """
    ax = axes_or_current(ax)
    marker = "o" if len(loss_list) == 1 else ""  # a lone point draws no line
    ax.plot(np.arange(len(loss_list)), loss_list, color=COLORS[0], label="train", marker=marker)
    dress(ax, f"iterations (x{eval_interval})" if eval_interval else "iterations", ylabel, title)
    if ylim is not None:
        ax.set_ylim(*ylim)
    return shown(ax, show)


def plot_accuracy(
    accuracy_list: Sequence[float],
    ax: Axes | None = None,
    *,
    label: str = "test",
    title: str | None = None,
    show: bool = False,
) -> Axes:
    """Draw accuracy against epochs (1, 2, ...).

    Parameters
    ----------
    accuracy_list : sequence of float in [0, 1]
        One value per epoch.
    ax : matplotlib Axes, optional
        Where to draw; pyplot's current Axes otherwise.
    label : str
        Name of the data.
    title : str, optional
        Text over the picture.
    show : bool
        Call ``matplotlib.pyplot.show()``.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    ax = axes_or_current(ax)
    from matplotlib.ticker import MaxNLocator

    epochs = np.arange(1, len(accuracy_list) + 1)
    ax.plot(epochs, accuracy_list, color=COLORS[0], label=label, marker="o" if len(epochs) <= 40 else "", markersize=4)
    dress(ax, "epoch", f"{label} accuracy", title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return shown(ax, show)


def plot_decision_boundary(
    model: Any,
    x: ArrayLike,
    t: ArrayLike,
    ax: Axes | None = None,
    *,
    title: str | None = None,
    resolution: int = 400,
    show: bool = False,
) -> Axes:
    """Draw the regions that the model assigns to each class, and the data points over them.

    Parameters
    ----------
    model : object with predict(x) -> scores
        x is (M, 2), the scores are (M, C).
    x : (N, 2) array
        The points.
    t : (N,) class indices or (N, C) one-hot
        Their classes.
    ax : matplotlib Axes, optional
        Where to draw; pyplot's current Axes otherwise.
    title : str, optional
        Text over the picture.
    resolution : int
        Points of the grid per side that the model is asked for.
    show : bool
        Call ``matplotlib.pyplot.show()``.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If x is not (N, 2) or t does not have N rows.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    Source: Deep Learning from Scratch 2, chapter 1.4.3, figure 1-32.
    """
    data, labels = np.asarray(x), np.asarray(t)
    if data.ndim != 2 or data.shape[1] != 2 or len(data) == 0:
        raise ValueError(f"plot_decision_boundary: x must be (N, 2) points, got shape {data.shape}")
    if labels.ndim not in (1, 2) or len(labels) != len(data):
        got = f"got shape {labels.shape}"
        raise ValueError(f"plot_decision_boundary: t must be {len(data)} classes or one-hot rows, {got}")
    if labels.ndim == 2:
        labels = labels.argmax(axis=1)
    ax = axes_or_current(ax)
    from matplotlib.colors import ListedColormap

    low, high = data.min(axis=0), data.max(axis=0)
    margin = 0.08 * max(*(high - low), 1e-6)
    across = [np.linspace(low[i] - margin, high[i] + margin, resolution) for i in (0, 1)]
    grid = np.stack(np.meshgrid(*across), axis=-1).reshape(-1, 2).astype(data.dtype)
    scores = np.asarray(model.predict(grid))
    regions = scores.argmax(axis=1).reshape(resolution, resolution)

    classes = scores.shape[1]
    colors = [COLORS[c % len(COLORS)] for c in range(classes)]
    ax.imshow(
        regions,
        extent=(across[0][0], across[0][-1], across[1][0], across[1][-1]),
        origin="lower",
        interpolation="nearest",
        cmap=ListedColormap([_tint(color) for color in colors]),
        vmin=-0.5,
        vmax=classes - 0.5,
        zorder=0,
    )
    for c in range(classes):
        if 0 < np.count_nonzero(regions == c) < regions.size:
            lead = scores[:, c] - np.delete(scores, c, axis=1).max(axis=1)  # zero where another class draws level
            ax.contour(*across, lead.reshape(regions.shape), levels=[0.0], colors=INK, linewidths=0.8, zorder=1)
        points = data[labels == c]
        ax.scatter(
            points[:, 0],
            points[:, 1],
            s=26,
            color=colors[c],
            marker=MARKERS[c % len(MARKERS)],
            edgecolors="white",
            linewidths=0.6,
            label=f"class {c}",
            zorder=2,
        )
    dress(ax, "x0", "x1", title)
    ax.grid(False)
    ax.set_aspect("equal")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, handletextpad=0.2)
    return shown(ax, show)


def plot_predictions(
    model: Any,
    x: ArrayLike,
    t: ArrayLike,
    ax: Axes | None = None,
    *,
    rows: int = 5,
    columns: int = 12,
    title: str | None = None,
    show: bool = False,
) -> Axes:
    """Draw images with the class that the model gives each; a wrong one is framed and shows the right class too.

    Parameters
    ----------
    model : object with predict(x) -> scores
        The scores are (M, C).
    x : (N, H * H) or (N, 1, H, H) array
        Flattened square images; the first ``rows * columns`` are drawn, light on dark ground shown as ink on paper.
    t : (N,) class indices or (N, C) one-hot
        Their classes.
    ax : matplotlib Axes, optional
        Where to draw; pyplot's current Axes otherwise.
    rows, columns : int
        Of the grid.
    title : str, optional
        Text over the picture.
    show : bool
        Call ``matplotlib.pyplot.show()``.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If x is not (N, H * H) or t does not have N rows.
    ImportError
        If matplotlib is not installed.
    """
    data, labels = np.asarray(x), np.asarray(t)
    side = math.isqrt(math.prod(data.shape[1:]))
    if len(data) == 0 or data.shape[1:] not in ((side * side,), (1, side, side)):
        raise ValueError(f"plot_predictions: x must be (N, H * H) flattened square images, got shape {data.shape}")
    if labels.ndim not in (1, 2) or len(labels) != len(data):
        raise ValueError(f"plot_predictions: t must be {len(data)} classes or one-hot rows, got shape {labels.shape}")
    data, labels = data[: rows * columns], labels[: rows * columns]
    if labels.ndim == 2:
        labels = labels.argmax(axis=1)
    ax = axes_or_current(ax)
    from matplotlib.patches import Rectangle

    guesses = np.asarray(model.predict(data)).argmax(axis=1)
    for i, (image, guess, label) in enumerate(zip(data, guesses, labels, strict=True)):
        left, top = 1.25 * (i % columns), 1.5 * (i // columns)
        ax.imshow(image.reshape(side, side), cmap="gray_r", extent=(left, left + 1, top + 1, top))
        wrong = guess != label
        text = f"{guess} (is {label})" if wrong else f"{guess}"
        ax.text(left + 0.5, top + 1.05, text, ha="center", va="top", fontsize=9, color=COLORS[4] if wrong else INK)
        if wrong:
            ax.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=COLORS[4], linewidth=2))
    ax.set_xlim(-0.1, 1.25 * min(columns, len(data)) - 0.15)
    ax.set_ylim(1.5 * -(-len(data) // columns), -0.1)
    ax.set_aspect("equal")
    ax.set_axis_off()
    if title:
        ax.set_title(title, loc="left", fontsize="medium", color=INK)
    return shown(ax, show)


def _tint(color: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    r, g, b = (1 - 0.35 * (1 - channel) for channel in to_rgb(color))
    return r, g, b
