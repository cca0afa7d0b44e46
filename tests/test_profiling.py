"""fastnn/profiling.py and the command that uses it: what is made of measurements, not how fast anything is."""

import csv
import io
import json

import numpy as np
import pytest

import fastnn
from fastnn import _profile_command, cli, kernels, profiling, serialize
from fastnn._timing import Contestant
from fastnn.models import TwoLayerNet
from fastnn.optimizer import SGD
from fastnn.profiling import Point

MACHINE = fastnn.Roofline(threads=2, flops={"float32": 400e9, "float64": 200e9}, copy=30e9, copy_cached=100e9)


def curve(seconds, dtype="float32", backend="fastnn", **other):
    points = tuple(Point(n, s, 0.9 * s, 1.1 * s, flops=8e4 * n, memory=1000 * n) for n, s in seconds.items())
    return fastnn.ThroughputProfile("net", "predict", dtype, backend, "cpu", points, MACHINE, **other)


KNOWN = curve({1: 5e-6, 2: 6e-6, 64: 64e-6, 256: 250e-6, 1024: 1.2e-3})


def test_best_and_knee():
    assert KNOWN.best().batch == 256
    assert KNOWN.best(latency_ms=0.2).batch == 64
    assert KNOWN.best(latency_ms=0.25).batch == 256
    assert KNOWN.best(latency_ms=0.001) is None
    assert KNOWN.knee().batch == 64  # 1.000 million a second; the best is 1.024
    assert curve({8: 1e-3}).knee().batch == 8


def test_of_peak():
    assert KNOWN.of_peak(KNOWN.points[2]) == pytest.approx(8e4 * 64 / 64e-6 / 400e9)
    assert curve({1: 1.0}, dtype="int8").of_peak(Point(1, 1.0, 1.0, 1.0, flops=5.0)) is None
    assert KNOWN.of_peak(Point(1, 1.0, 1.0, 1.0)) is None


def test_json_and_back():
    assert fastnn.ThroughputProfile.from_json(KNOWN.to_json()) == KNOWN


def test_csv():
    rows = list(csv.DictReader(io.StringIO(profiling.to_csv([KNOWN, curve({1: 1e-6}, "float64")]))))
    assert [int(row["batch"]) for row in rows] == [1, 2, 64, 256, 1024, 1]
    assert float(rows[2]["samples_per_s"]) == pytest.approx(1e6) and rows[5]["dtype"] == "float64"


@pytest.mark.parametrize("n, outside", [(1, 0), (5, 0), (6, 0), (9, 1), (15, 3), (30, 9)])
def test_confidence_interval(n, outside):
    """Between order statistics; from the tables of the sign test."""
    low, high = profiling.confidence_interval(range(n))
    assert (low, n - 1 - high) == (outside, outside)


def test_crossover():
    slow_start, fast_start = curve({1: 2.0, 2: 2.0, 4: 2.0}), curve({1: 1.0, 2: 2.5, 4: 3.0})
    assert _profile_command.crossover(fast_start, slow_start) == 2
    assert _profile_command.crossover(slow_start, fast_start) is None
    assert _profile_command.crossover(slow_start, curve({1: 1.0, 2: 1.0, 4: 1.0})) == 1


# --- measurements ---------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What is timed does not matter here."""
    monkeypatch.setattr("fastnn._timing.CHUNK", 1e-5)
    monkeypatch.setattr("fastnn._timing.WARM", 0.0)
    monkeypatch.setattr("fastnn._timing.REST", 0.0)
    monkeypatch.setattr("fastnn._timing.MOST_ROUNDS", 1)
    monkeypatch.setattr(profiling, "roofline", lambda device: MACHINE)
    monkeypatch.setattr("fastnn._roofline.roofline", lambda: MACHINE)


def test_profile_of_a_network():
    net = TwoLayerNet(20, 10, 5, rng=0)
    before = [p.copy() for p in net.params]
    p = fastnn.profile(net, batch_sizes=[8, 1, 8], rounds=3)
    assert [q.batch for q in p.points] == [1, 8]
    assert all(q.low <= q.seconds <= q.high and q.memory > 0 for q in p.points)
    assert [q.flops for q in p.points] == [2 * 250, 8 * 2 * 250]
    assert (p.name, p.mode, p.dtype, p.backend) == ("TwoLayerNet", "predict", "float32", "fastnn")
    np.testing.assert_equal(list(net.params), before)


def test_profile_of_any_callable():
    seen = []

    def double(x):
        seen.append(x.copy())
        return 2 * x

    x = np.arange(6.0).reshape(3, 2)
    p = fastnn.profile(double, x, batch_sizes=[1, 4], rounds=1, name="doubling")
    assert (p.name, p.dtype, p.points[0].flops) == ("doubling", "float64", 0)
    assert {a.shape for a in seen} == {(1, 2), (2, 2), (4, 2)}
    four = next(a for a in seen if len(a) == 4)
    np.testing.assert_array_equal(four, x[[0, 1, 2, 0]])


def test_profile_of_a_training_step():
    net = TwoLayerNet(20, 10, 5, rng=0)
    before = net.params[0].copy()
    x, t = np.random.default_rng(0).random((4, 20), "float32"), np.array([0, 1, 2, 3])
    p = fastnn.profile(fastnn.compile(net, SGD()), x, t, batch_sizes=[4], rounds=1)
    assert p.mode == "train" and (net.params[0] != before).any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"model": 3}, "model must have predict or be callable, got int"),
        ({"model": abs}, "x must be given: the model does not begin with an Affine"),
        ({"model": abs, "x": []}, "x must hold samples along its first axis"),
        ({"model": abs, "x": [[1.0]], "t": [0, 1]}, "x must hold samples along its first axis, and t a label for each"),
        ({"model": abs, "x": [[1.0]], "batch_sizes": [0]}, r"batch_sizes must be at least 1, got \[0\]"),
        ({"model": abs, "x": [[1.0]], "batch_sizes": []}, r"batch_sizes must be at least 1, got \[\]"),
        ({"model": abs, "x": [[1.0]], "rounds": 0}, "rounds must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises((ValueError, TypeError), match=f"fastnn.profile: {message}"):
        fastnn.profile(**arguments)


def test_a_team_goes_without_rests(monkeypatch):
    from fastnn import _timing

    rests = []
    monkeypatch.setattr(_timing.time, "sleep", rests.append)
    contestants = [Contestant(lambda: None, team=team) for team in ("a", "a", "b", "", "")]
    told = []
    _timing.interleave(contestants, 2, lambda: told.append(1))
    assert len(rests) == 2 * 4 and len(told) == 2 * 5
    assert all(len(c.seconds) == 2 for c in contestants)


# --- the command ------------------------------------------------------------------------------------------------------


def profile(capsys, *arguments):
    code = cli.main(["profile", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_command(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    options = [
        "--model",
        "6-5-3",
        "--batch-sizes",
        "1:4",
        "--rounds",
        2,
        "--backend",
        "fastnn,numpy",
        "--out",
        tmp_path,
    ]
    code, out, err = profile(capsys, *options, "--latency-ms", 1000)
    assert (code, err) == (0, "")
    assert out.startswith("6-5-3 relu; 2 threads; FMA peak 400 GFLOP/s in float32, 200 in float64; copy 30.0 GB/s\n")
    assert out.count("knee: batch ") == out.count("best within 1000 ms: batch ") == 8
    assert out.count(" times the throughput of float64") == 4
    assert out.count("faster than fastnn") == 4
    profiles = [fastnn.ThroughputProfile.from_dict(p) for p in json.loads((tmp_path / "profile.json").read_text())]
    assert [p.label for p in profiles[:3]] == [
        "fastnn float32 predict, cpu", "fastnn float64 predict, cpu", "numpy float32 predict, cpu",
    ]  # fmt: skip
    assert all([q.batch for q in p.points] == [1, 2, 4] for p in profiles)
    assert len((tmp_path / "profile.csv").read_text().splitlines()) == 1 + 8 * 3
    assert (tmp_path / "profile.png").stat().st_size > 10_000


def test_command_with_weights(capsys, tmp_path):
    net = TwoLayerNet(6, 5, 3, rng=0)
    net.save_params(tmp_path / "net.npz")
    options = ["--weights", tmp_path / "net.npz", "--out", tmp_path, "--no-plot", "--rounds", 1, "--batch-sizes", 2]
    code, out, _ = profile(capsys, *options, "--mode", "predict", "--dtype", "float32")
    assert code == 0 and out.startswith("6-5-3 relu;") and out.count("knee") == 1
    code, _, err = profile(capsys, *options, "--model", "6-4-3")
    assert (code, err) == (2, f"fastnn: error: --model: expected 6-5-3 as in {tmp_path / 'net.npz'}\n")
    serialize.save_arrays(tmp_path / "odd.npz", {"W": np.ones((2, 3)), "b": np.ones(2)})
    code, _, err = profile(capsys, "--weights", tmp_path / "odd.npz", "--out", tmp_path)
    assert code == 2 and "expected W1, b1, W2, b2, ... of affine layers" in err and err.count("\n") == 1


def test_layers(capsys):
    options = ["--layers", "--model", "6-5-4-3", "--activation", "sigmoid", "--batch", 7, "--rounds", 1]
    code, out, _ = profile(capsys, *options, "--dtype", "float64")
    assert code == 0 and out.startswith("6-5-4-3 sigmoid, batch 7, float64, 2 threads\n")
    rows = [line.split()[:2] for line in out.splitlines()[2:15]]
    names = ["Affine1", "Sigmoid1", "Affine2", "Sigmoid2", "Affine3", "SoftmaxWithLoss"]
    assert rows == [*([n, "forward"] for n in names), *([n, "backward"] for n in names[::-1]), ["SGD", "update"]]
    assert "layer by layer" in out and "the compiled step" in out


@pytest.mark.parametrize(
    "options, message",
    [
        (["--model", "784"], "argument --model: expected sizes such as 784-50-10, got '784'"),
        (["--model", "784-0-10"], "argument --model: expected sizes such as 784-50-10, got '784-0-10'"),
        (
            ["--batch-sizes", "8:1"],
            "argument --batch-sizes: expected batch sizes such as 1:4096 or 1,10,100, got '8:1'",
        ),
        (["--batch-sizes", ""], "argument --batch-sizes: expected batch sizes such as 1:4096 or 1,10,100, got ''"),
        (["--dtype", "int8"], "argument --dtype: expected some of float32,float64, got 'int8'"),
        (["--mode", "fit"], "argument --mode: expected some of predict,train, got 'fit'"),
        (["--device", "tpu"], "argument --device: expected some of cpu,cuda, got 'tpu'"),
        (["--backend", "jax"], "argument --backend: expected some of fastnn,numpy,torch, got 'jax'"),
        (["--latency-ms", "-1"], "argument --latency-ms: expected a positive number, got '-1'"),
        (["--rounds", "x"], "argument --rounds: expected an integer of at least 1, got 'x'"),
    ],
)
def test_bad_options_are_one_line_and_status_2(capsys, options, message):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["profile", *options])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"fastnn: error: {message} (see fastnn profile --help)\n"


def test_device_without_kernels(capsys, tmp_path):
    if not kernels.gpu_problem():
        pytest.skip("there is a GPU")
    code, _, err = profile(capsys, "--device", "cuda", "--out", tmp_path)
    assert (code, err) == (2, f"fastnn: error: --device cuda: n/a, {kernels.gpu_problem()}\n")
    options = ["--rounds", 1, "--batch-sizes", 2, "--dtype", "float32", "--mode", "predict", "--model", "6-5-3"]
    code, out, _ = profile(capsys, "--device", "cpu,cuda", "--out", tmp_path, "--no-plot", *options)
    assert code == 0 and f"\ncuda: n/a, {kernels.gpu_problem()}\n" in out


@pytest.mark.parametrize(
    "options, message",
    [
        (["--weights", "nix.npz"], "--weights: no file 'nix.npz'"),
        (["--layers", "--device", "cpu,cuda"], "--layers: measures on cpu only, got --device cpu,cuda"),
        (["--out", __file__, "--no-plot"], f"--out: expected a directory, got the file '{__file__}'"),
    ],
)
def test_options_that_turn_out_to_be_wrong(capsys, options, message):
    assert profile(capsys, *options) == (2, "", f"fastnn: error: {message}\n")


@pytest.mark.parametrize(
    "text, sizes", [("1:8", [1, 2, 4, 8]), ("3:9", [3, 4, 8, 9]), ("7, 2,7", [2, 7]), ("1:2,10", [1, 2, 10])]
)
def test_batch_sizes(text, sizes):
    from fastnn._arguments import batch_sizes

    assert batch_sizes(text) == sizes


def test_plot():
    pytest.importorskip("matplotlib")
    from fastnn.plot import new_axes, plot_throughput

    ax = plot_throughput([KNOWN, curve({1: 2e-6, 64: 1e-4}, "float64")], new_axes(), title="both")
    lines = {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}
    assert list(lines) == ["fastnn float32 predict, cpu", "fastnn float64 predict, cpu"]
    np.testing.assert_allclose(lines["fastnn float64 predict, cpu"].get_xydata(), [[1, 5e5], [64, 6.4e5]])
    assert KNOWN.plot(new_axes()).get_xlabel() == "batch size"


@pytest.mark.parametrize("backend", ["fastnn", "numpy", "torch"])
def test_backends_agree(backend):
    from fastnn._backends import BACKENDS

    if backend == "torch":
        pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    params = [(rng.standard_normal((6, 5)), rng.standard_normal(5)), (rng.standard_normal((5, 3)), np.zeros(3))]
    x, t = rng.standard_normal((4, 6)), np.array([0, 1, 2, 1])
    hidden = 1 / (1 + np.exp(-(x @ params[0][0] + params[0][1])))
    e = np.exp(hidden @ params[1][0] + params[1][1])
    got = np.asarray(BACKENDS[backend].predictor(params, 4, "sigmoid")(x))
    np.testing.assert_allclose(got, e / e.sum(axis=1, keepdims=True))
    step = BACKENDS[backend].step([(W.copy(), b.copy()) for W, b in params], x, t, "sigmoid", 0.1)
    losses = [float(step()) for _ in range(20)]
    assert losses[-1] < losses[0] == pytest.approx(-np.log((e / e.sum(axis=1, keepdims=True))[range(4), t]).mean())
