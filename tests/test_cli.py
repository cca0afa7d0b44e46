"""fastnn/cli.py, run as users run it: as a process where that matters, else through main()."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import cli, serialize

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-W", "error", "-m", "fastnn"]


def fastnn_command(*args, cwd=ROOT, **env):
    """Run the command line in a process and return (exit code, stdout, stderr)."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run([*COMMAND, *map(str, args)], cwd=cwd, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def is_one_line_error(err):
    return re.fullmatch(r"fastnn: error: [^\n]+\n", err) is not None


def not_blank(path):
    imread = pytest.importorskip("matplotlib.image").imread
    return len(np.unique(imread(path).reshape(-1, imread(path).shape[-1]), axis=0)) > 20


# --- train ------------------------------------------------------------------------------------------------------


def test_spiral_few_epochs(tmp_path):
    code, out, err = fastnn_command("train", "spiral", "--epochs", 3, cwd=tmp_path)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("spiral: 300 samples to learn from, none to test; network 2-10-3, sigmoid, float32; SGD")
    assert re.fullmatch(r"(Preparing|Compiling) kernels .*\d+\.\d s.*", lines[1])
    assert re.fullmatch(r"\| epoch 1 \|  iter 1 / 10 \| time 0\[s\] \| loss 1\.10", lines[2])
    assert re.fullmatch(r"final loss 1\.\d+, accuracy 0\.\d+ after 3 epochs in \d+\.\d s", lines[5])
    files = [Path("fastnn-output", f"spiral-{name}.png") for name in ("loss", "boundary")]
    assert lines[6:] == [f"wrote {path}" for path in files]
    assert all(not_blank(tmp_path / path) for path in files)
    assert sorted(p.name for p in (tmp_path / "fastnn-output").iterdir()) == sorted(p.name for p in files)


def test_spiral_as_in_the_book(capsys):
    assert cli.main(["train", "spiral", "--no-plot", "--quiet"]) == 0
    out = capsys.readouterr().out
    loss, accuracy = map(float, re.fullmatch(r"final loss (\S+), accuracy (\S+) after 300 epochs .*\n", out).groups())
    assert loss == pytest.approx(0.1, abs=0.05) and accuracy > 0.95


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--optimizer adam", "Adam with lr 0.03,"),
        ("--optimizer nesterov", "Nesterov with lr 0.3,"),
        ("--optimizer adagrad --lr 0.5", "AdaGrad with lr 0.5,"),
        ("--optimizer sgd", "SGD with lr 1,"),
    ],
)
def test_optimizers(capsys, options, said):
    assert cli.main(["train", "spiral", "--epochs", "1", "--no-plot", *options.split()]) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "digits --model simple-conv-net --hidden 20",
            "network SimpleConvNet with 20 hidden units, float32; Adam with",
        ),
        (
            "spiral --model multi-layer-net --hidden 8,6 --batchnorm --dropout 0.2 --weight-decay 0.001",
            "network 2-8-6-3, sigmoid, float32; SGD with",
        ),
    ],
)
def test_models(capsys, tmp_path, arguments, said):
    options = [] if arguments.startswith("digits") else ["--no-plot"]
    assert cli.main(["train", *arguments.split(), "--epochs", "1", "--out", str(tmp_path), *options]) == 0
    out = capsys.readouterr().out
    assert said in out
    assert (tmp_path / "digits-predictions.png").exists() == (not options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("spiral --model simple-conv-net", "--model: simple-conv-net needs images; spiral has points"),
        ("digits --model deep-conv-net --activation relu", "--activation is not for deep-conv-net"),
        ("digits --dropout 0.5", "--dropout is not for two-layer-net"),
        ("digits --hidden 3,4", "--hidden: expected one number for two-layer-net, got 2"),
        ("digits --model multi-layer-net --dropout 1.5", "Dropout: dropout_ratio must be in [0, 1), got 1.5"),
    ],
)
def test_options_that_do_not_fit_the_model(capsys, arguments, message):
    assert cli.main(["train", *arguments.split(), "--no-plot", "--quiet"]) == (2 if message.startswith("--") else 1)
    assert capsys.readouterr().err == f"fastnn: error: {message}\n"


def test_digits(capsys, tmp_path):
    assert cli.main(["train", "digits", "--out", str(tmp_path / "a" / "b")]) == 0
    out = capsys.readouterr().out
    assert float(re.search(r"test accuracy (\S+)", out)[1]) >= 0.95
    assert len(re.findall(r"validation accuracy", out)) == 11
    for name in ("loss", "accuracy", "predictions"):
        path = tmp_path / "a" / "b" / f"digits-{name}.png"
        assert f"wrote {path}\n" in out and not_blank(path)


@pytest.mark.slow
def test_mnist(capsys):
    if "FASTNN_DATA_DIR" not in os.environ:
        pytest.skip("needs MNIST in FASTNN_DATA_DIR")
    assert cli.main(["train", "mnist", "--no-plot", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "after 16 epochs" in out  # 600 steps each
    assert float(re.search(r"test accuracy (\S+)", out)[1]) >= 0.970


def test_options_arrive(capsys, tmp_path):
    path = tmp_path / "w.npz"
    options = "--hidden 7 --activation relu --lr 0.25 --batch-size 50 --epochs 2 --dtype float64 --seed 5"
    args = ["train", "spiral", *options.split(), "--weight-init-std", "0.5", "--no-plot", "--save", str(path)]
    assert cli.main(args) == 0
    out = capsys.readouterr().out
    assert "network 2-7-3, relu, float64; SGD with lr 0.25, batches of 50, 2 epochs, seed 5" in out
    assert "iter 1 / 6" in out and f"wrote {path}\n" in out

    from fastnn.dataset import spiral
    from fastnn.models import TwoLayerNet
    from fastnn.optimizer import SGD
    from fastnn.trainer import Trainer

    rng = np.random.default_rng(5)
    model = TwoLayerNet(2, 7, 3, weight_init_std=0.5, activation="relu", dtype="float64", rng=rng)
    Trainer(model, SGD(0.25)).fit(*spiral.load_data(), max_epoch=2, batch_size=50, verbose=False, rng=rng)
    saved = serialize.load_arrays(path)
    assert list(saved) == list(model.params.keys())
    for name, array in saved.items():  # exactly, in the dtype of the network
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, model.params[name])


def test_same_seed_same_weights_other_seed_others(tmp_path):
    weights = []
    for i, seed in enumerate([3, 3, 4]):
        path = tmp_path / f"{i}.safetensors"
        assert cli.main(f"train spiral --epochs 1 --quiet --no-plot --seed {seed} --save {path}".split()) == 0
        weights.append(serialize.load_arrays(path)["W1"])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_quiet_prints_only_the_result_and_the_files(capsys, tmp_path):
    assert cli.main(f"train spiral --epochs 1 --quiet --out {tmp_path}".split()) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["final", "wrote", "wrote"]
    assert err == ""


def test_no_epochs_and_no_plot(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "spiral", "--epochs", "0", "--no-plot"]) == 0
    assert "after 0 epochs" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_first_run_says_that_it_compiles_and_the_second_does_not(tmp_path):
    args, cache = ["train", "spiral", "--epochs", "1", "--no-plot"], str(tmp_path)
    first = fastnn_command(*args, FASTNN_CACHE_DIR=cache)[1]
    second = fastnn_command(*args, FASTNN_CACHE_DIR=cache)[1]
    assert re.search(r"Compiling kernels for this CPU \.\.\. \S+ s \(\d+ compiled and kept for the next time\)", first)
    assert re.search(r"Preparing kernels \.\.\. \S+ s\n", second)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_keeps_what_was_learned(tmp_path):
    args = ["train", "spiral", "--epochs", "1000000", "--save", "w.npz", "--out", "pictures"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*COMMAND, *args], cwd=tmp_path, env=environment, **pipes) as process:
        try:
            for line in process.stdout:
                if line.startswith("| epoch 1 "):
                    break
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130 and err == ""
    assert out.startswith("| stopped by Ctrl-C in epoch ") and "final loss" in out
    assert serialize.load_arrays(tmp_path / "w.npz").keys() == {"W1", "b1", "W2", "b2"}
    assert not_blank(tmp_path / "pictures" / "spiral-boundary.png")


def test_ctrl_c_outside_of_training(capsys, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_load", pressed)
    assert cli.main(["train", "spiral", "--no-plot"]) == 130
    assert capsys.readouterr().err == "fastnn: stopped by Ctrl-C\n"


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("", "the following arguments are required: command (see fastnn --help)"),
        ("learn", "invalid choice: 'learn'"),
        ("train", "the following arguments are required: dataset (see fastnn train --help)"),
        ("train cifar", "invalid choice: 'cifar'"),
        ("train spiral --hidden 0", "argument --hidden: expected an integer of at least 1, got '0'"),
        ("train spiral --hidden ten", "argument --hidden: expected an integer of at least 1, got 'ten'"),
        ("train spiral --batch-size 1.5", "argument --batch-size: expected an integer of at least 1, got '1.5'"),
        ("train spiral --epochs -1", "argument --epochs: expected an integer of at least 0, got '-1'"),
        ("train spiral --seed -1", "argument --seed: expected an integer of at least 0, got '-1'"),
        ("train spiral --lr nan", "argument --lr: expected a positive number, got 'nan'"),
        ("train spiral --lr inf", "argument --lr: expected a positive number, got 'inf'"),
        ("train spiral --weight-init-std 0", "argument --weight-init-std: expected a positive number, got '0'"),
        ("train spiral --activation tanh", "argument --activation: invalid choice: 'tanh'"),
        ("train spiral --dtype float16", "argument --dtype: invalid choice: 'float16'"),
        ("train spiral --colour", "unrecognized arguments: --colour"),
        ("info spiral", "unrecognized arguments: spiral"),
    ],
)
def test_wrong_usage(capsys, args, message):
    with pytest.raises(SystemExit) as exit_:
        cli.main(args.split())
    err = capsys.readouterr().err
    assert exit_.value.code == 2
    assert is_one_line_error(err) and message in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("train spiral --data-dir .", "--data-dir is for mnist; spiral comes with fastnn"),
        ("train mnist --data-dir missing", "data_dir: expected a folder with MNIST files, got 'missing'"),
        ("train mnist --data-dir broken", "train-images-idx3-ubyte"),
        ("train spiral --out file", "--out: expected a directory, got the file 'file'"),
        ("train spiral --out file/below", "--out: cannot write to 'file/below': Not a directory"),
        ("train spiral --save missing/w.npz", "--save: no directory 'missing'"),
        ("train spiral --save w.pkl", "--save: expected a name that ends in .safetensors or .npz, got 'w.pkl'"),
        ("train spiral --save folder.npz", "--save: expected a file, got the directory 'folder.npz'"),
        ("train spiral --out /proc", "--out: cannot write to '/proc': "),
        ("train spiral --save /proc/w.npz", "--save: cannot write to '/proc': "),
        ("profile --out /proc/below", "--out: cannot write to '/proc/below': "),
    ],
)
def test_expected_errors_are_one_line(capsys, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    if "/proc" in args and not Path("/proc/self").is_dir():
        pytest.skip("needs a folder in which not even root can write")
    Path("file").write_text("x")
    Path("folder.npz").mkdir()
    Path("broken").mkdir()
    Path("broken", "train-images-idx3-ubyte").write_bytes(b"<html>")
    assert cli.main(args.split()) == (2 if message.startswith("--") else 1)
    out, err = capsys.readouterr()
    assert is_one_line_error(err) and message in err
    assert "epoch" not in out  # before any training


def test_without_matplotlib(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["train", "spiral", "--epochs", "1"]) == 1
    assert capsys.readouterr().err == "fastnn: error: plots need matplotlib: pip install 'fastnn-kernels[plot]'\n"
    assert cli.main(["train", "spiral", "--epochs", "1", "--no-plot", "--quiet"]) == 0


def test_an_error_of_many_lines_becomes_one(capsys, monkeypatch):
    def fail(*_):
        raise ValueError("first\n  second")

    monkeypatch.setattr(cli, "_load", fail)
    assert cli.main(["train", "spiral", "--no-plot"]) == 1
    assert capsys.readouterr().err == "fastnn: error: first second\n"


def test_unexpected_errors_keep_their_traceback(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_load", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", "spiral", "--no-plot"])


def test_warnings_are_one_line_without_source(capsys):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = cli._show_warning
        warnings.warn("fastnn: kernels are not kept", RuntimeWarning, stacklevel=1)
    assert capsys.readouterr().err == "fastnn: warning: kernels are not kept\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_nobody_reads_the_output():
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*COMMAND, "info"], env=environment, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.stderr == ""


# --- info, version ----------------------------------------------------------------------------------------------


def test_info(tmp_path):
    code, out, err = fastnn_command("info", FASTNN_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="1")
    assert (code, err) == (0, "")
    told = {line[:18].strip(): line[18:] for line in out.splitlines()}
    assert list(told) == [
        "fastnn", "Python", "NumPy", "Numba", "llvmlite", "CPU", "CPU features", "threads", "kernel cache", "GPU",
    ]  # fmt: skip
    assert told["fastnn"] == fastnn.__version__
    assert told["NumPy"].startswith(f"{np.__version__}, BLAS: ")
    assert re.fullmatch(r"1 of \d+ usable CPUs", told["threads"])
    assert told["kernel cache"].startswith(str(tmp_path)) and told["kernel cache"].endswith("(0 files, 0.0 MB)")
    assert all(told.values())


def test_cache(tmp_path):
    FASTNN_CACHE_DIR = str(tmp_path)
    old = tmp_path / "kernels-0"
    old.mkdir()
    (old / "relu.nbc").write_bytes(bytes(10))
    (tmp_path / "mine.txt").touch()
    assert fastnn_command("cache", "path", FASTNN_CACHE_DIR=FASTNN_CACHE_DIR)[1] == f"{tmp_path}\n"
    assert fastnn_command("cache", "info", FASTNN_CACHE_DIR=FASTNN_CACHE_DIR)[1].startswith(f"{tmp_path}/kernels-")
    code, out, err = fastnn_command("cache", "clear", FASTNN_CACHE_DIR=FASTNN_CACHE_DIR)
    assert (code, out, err) == (0, f"removed 1 files, 0.0 MB, from {tmp_path}\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert fastnn_command("cache", "burn", FASTNN_CACHE_DIR=FASTNN_CACHE_DIR)[0] == 2


def test_cpu_features_in_words(monkeypatch):
    import llvmlite.binding

    from fastnn import _system

    features = {"avx2": True, "fma": True, "avx512f": False}
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", lambda: features)
    assert _system.cpu_features() == "AVX2, FMA"


class Driver:
    """One that has a GPU, or none."""

    def __init__(self, name):
        self.name = name

    def cuInit(self, flags):
        return 0 if self.name else 100

    def cuDeviceGet(self, device, i):
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = self.name
        return 0


@pytest.mark.parametrize(
    ("driver", "cupy", "problem", "told"),
    [
        (None, None, "", "none found (no NVIDIA driver; CuPy is not installed)"),
        (None, "there", "", "none found (no NVIDIA driver; CuPy is installed)"),
        (Driver(b""), None, "", "none found (the NVIDIA driver sees no device; CuPy is not installed)"),
        (Driver(b"H200"), None, "CuPy is not installed", "H200, not used: CuPy is not installed"),
        (Driver(b"H200"), "there", "", "H200"),
    ],
)
def test_gpu_in_words(monkeypatch, driver, cupy, problem, told):
    from fastnn import _system

    monkeypatch.setattr(_system, "_cuda_driver", lambda: driver)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: cupy)
    monkeypatch.setattr("fastnn.kernels.gpu_problem", lambda: problem)
    assert _system.gpu() == told


def test_info_where_nothing_can_be_cached(tmp_path, monkeypatch):
    from fastnn import _system
    from fastnn.kernels.cpu._cache import cache_dir

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "file"))
    cache_dir.cache_clear()
    try:
        assert re.match(r"none: .*not kept", _system.kernel_cache())
    finally:
        cache_dir.cache_clear()


def test_version_and_help(capsys):
    for args, text in [(["--version"], f"fastnn {fastnn.__version__}\n"), (["train", "--help"], "--weight-init-std")]:
        with pytest.raises(SystemExit) as exit_:
            cli.main(args)
        assert exit_.value.code == 0
        assert text in capsys.readouterr().out


def test_version_is_quick_and_light():
    code = "import sys, fastnn.cli; print([m for m in ('matplotlib', 'numba', 'tqdm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
