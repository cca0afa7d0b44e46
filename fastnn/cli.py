"""The command line: ``fastnn train spiral|digits|mnist``, ``fastnn info``, ``cache``, ``warmup``, ``--version``.

Exit codes: 0 done, 1 an error, 2 wrong usage, 130 stopped by Ctrl-C. An error is one line on stderr.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import _profile_command
from ._arguments import UsageError, integer, output_folder, positive
from ._version import __version__

# The book's settings for the spiral (book 2, chapter 1: with 13 seeds, loss 0.10-0.13 and accuracy 0.953-0.973) and for
# MNIST (book 1, chapter 5: 9,600 steps; with 10 seeds, test accuracy 0.967-0.972, 0.970 on average).
# digits: test accuracy 0.969-0.981 with 13 seeds, in less than a second.
DEFAULTS: dict[str, dict[str, Any]] = {
    "spiral": {"hidden": [10], "activation": "sigmoid", "lr": 1.0, "batch_size": 30, "epochs": 300},
    "digits": {"hidden": [100], "activation": "relu", "lr": 0.5, "batch_size": 100, "epochs": 100},
    "mnist": {"hidden": [50], "activation": "relu", "lr": 0.1, "batch_size": 100, "epochs": 16},
}

# Times the learning rate of a data set, which is for sgd: good ones of those tried (bench/RESULTS.md).
_LR_FACTORS = {"sgd": 1.0, **dict.fromkeys(("momentum", "nesterov", "adagrad"), 0.3)}
_LR_FACTORS |= dict.fromkeys(("rmsprop", "adam", "adamw"), 0.03)

# --model: what it takes besides --hidden, and the settings that it does not have from the data set. In an epoch on
# MNIST, with Adam, simple-conv-net reaches 0.96, deep-conv-net 0.98.
_CONV = {"hidden": [50], "optimizer": "adam", "epochs": 5}
_MODELS: dict[str, tuple[set[str], dict[str, Any]]] = {
    "two-layer-net": ({"activation", "weight_init_std"}, {}),
    "multi-layer-net": ({"activation", "weight_init_std", "batchnorm", "dropout", "weight_decay"}, {}),
    "simple-conv-net": ({"weight_init_std"}, {**_CONV, "hidden": [100]}),
    "deep-conv-net": (set(), _CONV),
}

_AT_A_TIME = 1000  # samples, where a loss is not learned from

# Names on the command line: what fastnn.optimizer calls them.
_OPTIMIZERS = {name.lower(): name for name in ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam", "AdamW")}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0, or 1 for an error, 130 for Ctrl-C. Wrong usage raises ``SystemExit(2)``, as argparse does.
    """
    args = _parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return _COMMANDS[args.command](args)
        except KeyboardInterrupt:
            print("fastnn: stopped by Ctrl-C", file=sys.stderr)
            return 130
        except BrokenPipeError:  # `fastnn info | head -1`: nobody reads on, and nothing may be written at exit either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (ValueError, OSError, ImportError, MemoryError) as error:
            print(f"fastnn: error: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
            return 2 if isinstance(error, UsageError) else 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fastnn: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastnn", description="Neural-network layers on JIT-compiled kernels.")
    parser.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("info", help="versions, CPU, threads, kernel cache, GPU")
    cache = commands.add_parser("cache", help="the compiled kernels that are kept between processes")
    cache.add_argument("what", choices=["info", "path", "clear"], help="what is kept; where; remove it all")
    warmup = commands.add_parser("warmup", help="compile now what training and prediction need")
    warmup.add_argument(
        "--dtype", nargs="+", choices=["float32", "float64"], default=["float32"], help="default float32"
    )
    warmup.add_argument(
        "--layers", nargs="+", metavar="NAME", help="e.g. Affine Relu; default all, and the compiled step"
    )
    _profile_command.add_parser(commands)
    train = commands.add_parser(
        "train",
        help="train a network and draw how it went",
        description="Train a network and draw how it went.",
        epilog="Defaults: "
        + "; ".join(_describe_defaults(name, settings) for name, settings in DEFAULTS.items())
        + "; ".join(["", *(_describe_defaults(name, changes) for name, (_, changes) in _MODELS.items() if changes)])
        + ".",
    )
    train.add_argument("dataset", choices=list(DEFAULTS), help="mnist is downloaded once if it is not there")
    train.add_argument("--model", choices=list(_MODELS), default="two-layer-net", help="default %(default)s")
    train.add_argument(
        "--hidden", type=_integers, metavar="N[,N...]", help="units of the hidden layer; multi-layer-net has several"
    )
    train.add_argument("--activation", choices=["sigmoid", "relu"], help="of the hidden layers")
    train.add_argument("--batchnorm", action="store_true", default=None, help="multi-layer-net: batch normalisation")
    train.add_argument("--dropout", type=positive, metavar="RATIO", help="multi-layer-net: dropout")
    train.add_argument("--weight-decay", type=positive, metavar="LAMBDA", help="multi-layer-net: weight decay")
    train.add_argument("--optimizer", choices=list(_OPTIMIZERS), help="default sgd")
    train.add_argument(
        "--lr",
        type=positive,
        metavar="RATE",
        help="learning rate; default for sgd below, 0.3 times that for momentum, nesterov and adagrad, 0.03 times for "
        "rmsprop, adam and adamw; in convolutional networks the optimizer's own, but for sgd",
    )
    train.add_argument("--batch-size", type=integer(1), metavar="N", help="rows in a mini-batch")
    train.add_argument("--epochs", type=integer(0), metavar="N", help="passes over the training data")
    train.add_argument(
        "--weight-init-std", type=positive, metavar="STD", help="default 0.01; by activation in multi-layer-net"
    )
    train.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="default %(default)s")
    train.add_argument("--seed", type=integer(0), metavar="N", default=0, help="of weights and order; default 0")
    train.add_argument("--data-dir", metavar="DIR", help="where the four MNIST files are")
    train.add_argument("--out", metavar="DIR", default="fastnn-output", help="for the pictures; default %(default)s")
    train.add_argument("--save", metavar="FILE", help="write the weights (.safetensors or .npz)")
    train.add_argument("--no-plot", action="store_true", help="draw nothing")
    train.add_argument("--quiet", action="store_true", help="print only the result and the files written")
    return parser


def _describe_defaults(name: str, settings: dict[str, Any]) -> str:
    shown = {key: ",".join(map(str, value)) if key == "hidden" else value for key, value in settings.items()}
    return f"{name}: " + " ".join(f"--{key.replace('_', '-')} {value}" for key, value in shown.items())


def _integers(text: str) -> list[int]:
    return [integer(1)(part) for part in text.split(",")]


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"fastnn: warning: {str(message).removeprefix('fastnn: ')}", file=sys.stderr)


# --- train --------------------------------------------------------------------------------------------------------


def _train(args: argparse.Namespace) -> int:
    if args.data_dir is not None and args.dataset != "mnist":
        raise UsageError(f"--data-dir is for mnist; {args.dataset} comes with fastnn")
    takes, changes = _MODELS[args.model]
    for option in sorted({"activation", "weight_init_std", "batchnorm", "dropout", "weight_decay"} - takes):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option.replace('_', '-')} is not for {args.model}")
    if args.hidden and len(args.hidden) > 1 and args.model != "multi-layer-net":
        raise UsageError(f"--hidden: expected one number for {args.model}, got {len(args.hidden)}")
    defaults = {"optimizer": "sgd", **DEFAULTS[args.dataset], **changes}
    settings = defaults | {key: getattr(args, key) for key in defaults if getattr(args, key) is not None}
    out = None if args.no_plot else Path(args.out)
    _check_destinations(out, args.save)

    from . import optimizer as optimizers
    from .trainer import Trainer

    say = (lambda *_, **__: None) if args.quiet else print
    (x_train, t_train), test = _load(args.dataset, args.data_dir, args.dtype)
    classes = t_train.shape[1] if t_train.ndim == 2 else int(t_train.max()) + 1
    if args.model.endswith("conv-net"):
        x_train = _as_images(x_train, args)
        test = test and (_as_images(test[0], args), test[1])
    new_model, network = _model_of(args, settings, x_train.shape[1:], classes)

    def new_optimizer() -> Any:
        make = getattr(optimizers, _OPTIMIZERS[settings["optimizer"]])
        if args.lr is None and settings["optimizer"] != "sgd" and args.model.endswith("conv-net"):
            return make()
        return make(settings["lr"] * (_LR_FACTORS[settings["optimizer"]] if args.lr is None else 1.0))

    say(
        f"{args.dataset}: {len(x_train)} samples to learn from, {len(test[0]) if test else 'none'} to test; network "
        f"{network}, {args.dtype}; {_OPTIMIZERS[settings['optimizer']]} with lr {new_optimizer().lr:g}, "
        f"batches of {settings['batch_size']}, "
        f"{settings['epochs']} epochs, seed {args.seed}"
    )
    evaluation = test or (x_train, t_train)
    _prepare_kernels(new_model(0), new_optimizer(), x_train, t_train, evaluation, settings["batch_size"], say)

    rng = np.random.default_rng(args.seed)
    model = new_model(rng)
    trainer = Trainer(model, new_optimizer())
    steps_per_epoch = max(1, len(x_train) // settings["batch_size"])
    eval_interval = min(20, steps_per_epoch)
    points_per_epoch = -(-steps_per_epoch // eval_interval)
    lines = 10  # about so many, however long the training
    every = max(1, settings["epochs"] * points_per_epoch // lines)
    start = time.perf_counter()
    trainer.fit(
        x_train,
        t_train,
        settings["epochs"],
        settings["batch_size"],
        eval_interval=eval_interval,
        verbose=0 if args.quiet else every,
        validation=test,
        rng=rng,
    )
    seconds = time.perf_counter() - start

    loss, accuracy = _mean_loss(model, x_train, t_train), float(model.accuracy(*evaluation))
    accuracy_of = "test accuracy" if test else "accuracy"
    epochs = trainer.current_epoch
    print(f"final loss {loss:.4f}, {accuracy_of} {accuracy:.4f} after {epochs} epochs in {seconds:.1f} s")
    if args.save is not None:
        model.save_params(args.save, dtype=None)  # exactly the network whose accuracy was printed
        print(f"wrote {args.save}")
    if out is not None:
        for path in _draw(out, args.dataset, f"{args.dataset}: {accuracy_of} {accuracy:.3f}", trainer, evaluation):
            print(f"wrote {path}")
    return 130 if trainer.interrupted else 0


def _as_images(x: Any, args: argparse.Namespace) -> Any:
    side = math.isqrt(x.shape[1])
    if args.dataset == "spiral":
        raise UsageError(f"--model: {args.model} needs images; spiral has points")
    return x.reshape(-1, 1, side, side)


def _model_of(
    args: argparse.Namespace, settings: dict[str, Any], shape: Any, classes: int
) -> tuple[Callable[[Any], Any], str]:
    """A function that makes the model, given a source of random numbers; and what to call it."""
    from . import models

    hidden, activation, dtype = settings["hidden"], settings["activation"], args.dtype
    std = 0.01 if args.weight_init_std is None else args.weight_init_std
    if args.model == "simple-conv-net":
        return (
            lambda rng: models.SimpleConvNet(shape, hidden_size=hidden[0], weight_init_std=std, dtype=dtype, rng=rng),
            f"SimpleConvNet with {hidden[0]} hidden units",
        )
    if args.model == "deep-conv-net":
        return (
            lambda rng: models.DeepConvNet(shape, hidden_size=hidden[0], dtype=dtype, rng=rng),
            f"DeepConvNet with {hidden[0]} hidden units",
        )
    name = f"{shape[0]}-{'-'.join(map(str, hidden))}-{classes}, {activation}"
    if args.model == "two-layer-net":
        return lambda rng: models.TwoLayerNet(shape[0], hidden[0], classes, std, activation, dtype, rng), name
    options = {
        "activation": activation,
        "weight_init_std": args.weight_init_std or activation,
        "weight_decay_lambda": args.weight_decay or 0.0,
        "use_dropout": args.dropout is not None,
        "dropout_ratio": args.dropout,
        "use_batchnorm": bool(args.batchnorm),
    }
    return lambda rng: models.MultiLayerNetExtend(shape[0], hidden, classes, **options, dtype=dtype, rng=rng), name


def _mean_loss(model: Any, x: Any, t: Any) -> float:
    """The loss of all samples, a part at a time: what layers keep of images takes memory."""
    starts = range(0, len(x), _AT_A_TIME)
    losses = [float(model.loss(x[i : i + _AT_A_TIME], t[i : i + _AT_A_TIME])) for i in starts]
    return float(np.average(losses, weights=[min(_AT_A_TIME, len(x) - i) for i in starts]))


def _check_destinations(out: Path | None, save: str | None) -> None:
    """Fail before the training, not after it, if what comes out of it could not be written."""
    if out is not None:
        from ._figures import require_matplotlib

        require_matplotlib()
        output_folder("--out", out)
    if save is not None:
        if Path(save).suffix not in (".safetensors", ".npz"):
            raise UsageError(f"--save: expected a name that ends in .safetensors or .npz, got '{save}'")
        if not Path(save).parent.is_dir():
            raise UsageError(f"--save: no directory '{Path(save).parent}'")
        if Path(save).is_dir():
            raise UsageError(f"--save: expected a file, got the directory '{save}'")
        output_folder("--save", Path(save).parent)


def _load(dataset: str, data_dir: str | None, dtype: str) -> tuple[tuple[Any, Any], tuple[Any, Any] | None]:
    """Return the training data and the test data, None where there is none, inputs in the dtype of the network."""
    test: tuple[Any, Any] | None = None
    if dataset == "spiral":
        from .dataset import spiral

        train = spiral.load_data()
    elif dataset == "digits":
        from .dataset import digits

        train, test = digits.load_digits()
    else:
        from .dataset import mnist

        train, test = mnist.load_mnist(data_dir=data_dir)
    x, t = train
    return (x.astype(dtype, copy=False), t), test and (test[0].astype(dtype, copy=False), test[1])


def _prepare_kernels(model: Any, optimizer: Any, x: Any, t: Any, evaluation: Any, batch_size: int, say: Any) -> None:
    """Do one step on a throw-away model, so that compiling is seen for what it is and the training is timed without."""
    from ._system import count_compiled_kernels
    from .trainer import Trainer

    before = count_compiled_kernels()
    say("Preparing kernels ..." if before else "Compiling kernels for this CPU ...", end="", flush=True)
    start = time.perf_counter()
    Trainer(model, optimizer).fit(x[:batch_size], t[:batch_size], 1, batch_size, verbose=False, rng=0)
    _mean_loss(model, x[:_AT_A_TIME], t[:_AT_A_TIME])
    model.accuracy(evaluation[0][:batch_size], evaluation[1][:batch_size])
    compiled = count_compiled_kernels() - before
    kept = f" ({compiled} compiled and kept for the next time)" if compiled > 0 else ""
    say(f" {time.perf_counter() - start:.1f} s{kept}", flush=True)


def _draw(out: Path, dataset: str, title: str, trainer: Any, evaluation: tuple[Any, Any]) -> list[Path]:
    from . import plot

    pictures = {
        "loss": plot.plot_loss(
            trainer.loss_list, plot.new_axes(), eval_interval=trainer.eval_interval, title=title, ylim=(0, None)
        )
    }
    if dataset == "spiral":
        ax = plot.new_axes(6.4, 5.2)
        pictures["boundary"] = plot.plot_decision_boundary(trainer.model, *evaluation, ax, title=title)
    else:
        pictures["accuracy"] = plot.plot_accuracy(trainer.accuracy_list, plot.new_axes(), title=title)
        ax, title = plot.new_axes(9.0, 4.6), f"{title}; the network's answer under each image, framed where wrong"
        pictures["predictions"] = plot.plot_predictions(trainer.model, *evaluation, ax, title=title)
    paths = []
    for name, ax in pictures.items():
        paths.append(out / f"{dataset}-{name}.png")
        plot.save(ax, paths[-1])
    return paths


# --- info ---------------------------------------------------------------------------------------------------------


def _info(args: argparse.Namespace) -> int:
    from ._system import describe

    for name, value in describe().items():
        print(f"{name:<18}{value}")
    return 0


def _cache(args: argparse.Namespace) -> int:
    from . import _system

    if args.what == "clear":
        folder, files, size = _system.clear_kernel_cache()
        print(f"removed {files} files, {size / 1e6:.1f} MB, from {folder}")
    else:
        print(_system.kernel_cache() if args.what == "info" else _system.kernel_cache_folder())
    return 0


def _warmup(args: argparse.Namespace) -> int:
    from ._warmup import warmup

    warmup(args.dtype, args.layers)
    return 0


_COMMANDS = {"train": _train, "profile": _profile_command.run, "info": _info, "cache": _cache, "warmup": _warmup}
