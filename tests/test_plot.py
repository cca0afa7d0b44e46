"""fastnn/plot.py: what is drawn is read back from the Axes, and from the pixels of the files."""

import math
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import matplotlib
from matplotlib.colors import to_rgb

from fastnn import plot
from fastnn._figures import COLORS, INK


class Quadrants:
    """Class 0 left, 1 right below, 2 right above: boundaries known by heart."""

    def predict(self, x):
        assert x.ndim == 2 and x.shape[1] == 2
        return np.stack([-x[:, 0], x[:, 0] - x[:, 1], x[:, 0] + x[:, 1]], axis=1)


def pixels(path):
    return matplotlib.image.imread(path)[..., :3]


def share(image, color, tolerance=0.02):
    """Part of the pixels that have this colour."""
    return (np.abs(image - np.array(to_rgb(color))).max(axis=-1) < tolerance).mean()


@pytest.fixture
def points():
    x = np.random.default_rng(0).uniform(-1, 1, (60, 2))
    return x, Quadrants().predict(x).argmax(axis=1)


def test_plot_loss_draws_the_numbers():
    ax = plot.plot_loss([3.0, 2.0, 1.5], plot.new_axes(), eval_interval=20, title="a run", ylim=(0, None))
    (line,) = ax.get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[0, 3], [1, 2], [2, 1.5]])
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")) == ("iterations (x20)", "loss", "a run")
    assert ax.get_ylim()[0] == 0
    assert plot.plot_loss([1.0], plot.new_axes(), ylabel="perplexity").get_ylabel() == "perplexity"


@pytest.mark.parametrize("losses", [[], [1.0], [math.nan] * 3, [1.0, math.inf, 2.0, math.nan]], ids=str)
def test_plot_loss_of_a_failed_training_can_be_saved(tmp_path, losses):
    plot.save(plot.plot_loss(losses, plot.new_axes(), ylim=(0, None)), tmp_path / "loss.png")
    image = pixels(tmp_path / "loss.png")
    assert image.std() > 0
    assert (share(image, COLORS[0]) > 0) == (losses == [1.0])  # the lone point is seen; gaps are gaps


def test_loss_picture_shows_the_curve(tmp_path):
    plot.save(plot.plot_loss(np.linspace(2, 0.1, 50), plot.new_axes()), tmp_path / "falling.png")
    image = pixels(tmp_path / "falling.png")
    assert image.shape[0] > 500 and image.shape[1] > 900
    rows, columns = np.nonzero(np.abs(image - np.array(to_rgb(COLORS[0]))).max(axis=-1) < 0.02)
    assert len(rows) > 1000
    assert rows[columns.argmin()] < 0.2 * len(image) and rows[columns.argmax()] > 0.7 * len(image)  # it falls


def test_plot_accuracy():
    ax = plot.plot_accuracy([0.5, 0.75], plot.new_axes(), title="a run")
    np.testing.assert_array_equal(ax.get_lines()[0].get_xydata(), [[1, 0.5], [2, 0.75]])
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")) == ("epoch", "test accuracy", "a run")


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_decision_boundary(tmp_path, points, one_hot, dtype):
    x, t = points
    ax = plot.plot_decision_boundary(Quadrants(), x.astype(dtype), np.eye(3)[t] if one_hot else t, plot.new_axes(6, 5))
    regions = ax.get_images()[0]
    left, right, bottom, top = regions.get_extent()
    assert left < x[:, 0].min() and right > x[:, 0].max() and bottom < x[:, 1].min() and top > x[:, 1].max()
    drawn = [c for c in ax.collections if c.get_label().startswith("class")]
    assert [c.get_label() for c in drawn] == ["class 0", "class 1", "class 2"]
    for c, collection in enumerate(drawn):
        np.testing.assert_allclose(collection.get_offsets(), x[t == c], rtol=1e-6)
    assert len({c.get_paths()[0].vertices.tobytes() for c in drawn}) == 3  # told apart without colour

    plot.save(ax, tmp_path / "boundary.png")
    image = pixels(tmp_path / "boundary.png")
    for u, v in [(-0.6, 0.1), (0.6, -0.5), (0.6, 0.5)]:  # the regions are where the model says, not mirrored
        column, row = (ax.transData.transform((u, v)) * 150 / ax.figure.dpi).round().astype(int)
        patch = image[len(image) - row - 15 : len(image) - row + 15, column - 15 : column + 15].reshape(-1, 3)
        c = Quadrants().predict(np.array([[u, v]])).argmax()
        np.testing.assert_allclose(np.median(patch, axis=0), plot._tint(COLORS[c]), atol=0.01)
    for c in range(3):
        assert share(image, plot._tint(COLORS[c])) > 0.05, f"region of class {c}"
        assert share(image, COLORS[c]) > 0.0005, f"points of class {c}"
    assert share(image, INK) > 0.0005  # the boundary


def test_decision_boundary_of_a_model_that_sees_one_class_only(points):
    class One:
        def predict(self, x):
            return np.tile([1.0, 0.0, 0.0], (len(x), 1))

    ax = plot.plot_decision_boundary(One(), *points, plot.new_axes(), resolution=20)
    assert not np.asarray(ax.get_images()[0].get_array()).any()


@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        (np.zeros((4, 3)), np.zeros(4), r"x must be \(N, 2\) points, got shape \(4, 3\)"),
        (np.zeros((0, 2)), np.zeros(0), r"x must be \(N, 2\) points, got shape \(0, 2\)"),
        (np.zeros((4, 2)), np.zeros(3), r"t must be 4 classes or one-hot rows, got shape \(3,\)"),
    ],
)
def test_decision_boundary_of_something_else(x, t, message):
    with pytest.raises(ValueError, match=f"^plot_decision_boundary: {message}$"):
        plot.plot_decision_boundary(Quadrants(), x, t, plot.new_axes())


class FirstPixels:
    """Scores are the first three pixels."""

    def predict(self, x):
        return x[:, :3]


def test_predictions_frame_what_is_wrong(tmp_path):
    x = np.eye(16)[[0, 1, 2, 0]]
    ax = plot.plot_predictions(FirstPixels(), x, [0, 1, 1, 0], plot.new_axes(), rows=2, columns=2)
    assert [text.get_text() for text in ax.texts] == ["0", "1", "2 (is 1)", "0"]
    (frame,) = ax.patches
    assert frame.get_xy() == (0, 1.5)  # the third of two columns: second row, first column
    np.testing.assert_array_equal(ax.get_images()[2].get_array(), x[2].reshape(4, 4))
    plot.save(ax, tmp_path / "predictions.png")
    assert share(pixels(tmp_path / "predictions.png"), COLORS[4]) > 0.001
    assert len(plot.plot_predictions(FirstPixels(), x, np.eye(3)[[0, 1, 2, 0]], plot.new_axes(), rows=1).texts) == 4


def test_predictions_of_something_else():
    with pytest.raises(ValueError, match=r"x must be \(N, H \* H\) flattened square images, got shape \(2, 15\)"):
        plot.plot_predictions(FirstPixels(), np.zeros((2, 15)), [0, 1], plot.new_axes())
    with pytest.raises(ValueError, match=r"t must be 2 classes or one-hot rows, got shape \(3,\)"):
        plot.plot_predictions(FirstPixels(), np.zeros((2, 16)), [0, 1, 1], plot.new_axes())


def test_without_axes_it_draws_on_pyplots_and_show_shows(monkeypatch):
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    figure = plt.figure()
    try:
        ax = plot.plot_loss([2.0, 1.0], show=True)
        assert ax is plt.gca() and ax.figure is figure and shown == [1]
        assert plot.plot_loss([2.0, 1.0]) is ax and shown == [1]  # a second curve beside the first
        assert len(ax.get_lines()) == 2
    finally:
        plt.close(figure)


def run(code):
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_import_is_light_and_files_need_neither_pyplot_nor_a_backend(tmp_path):
    path = str(tmp_path / "loss.png")
    out = run(
        "import sys, fastnn.plot as plot; print('matplotlib' in sys.modules);"
        f"plot.save(plot.plot_loss([2, 1], plot.new_axes()), {path!r});"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert out.split() == ["False", "False"]
    assert pixels(path).std() > 0


@pytest.mark.parametrize("call", ["plot_loss([1])", "plot_accuracy([1])", "plot_throughput([])", "new_axes()"])
def test_without_matplotlib_one_line_says_what_to_install(call):
    out = run(
        "import sys; sys.modules['matplotlib'] = None\n"
        "from fastnn.plot import new_axes, plot_accuracy, plot_loss, plot_throughput\n"
        f"try: {call}\nexcept ImportError as error: print(error, error.__suppress_context__)"
    )
    assert out == "plots need matplotlib: pip install 'fastnn-kernels[plot]' True\n"
