"""Checkpoints: an interrupted training that goes on equals one without a break, bit for bit."""

import copy
import itertools
import json
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastnn import FileFormatError
from fastnn.layers import Affine, BatchNormalization, Dropout, SoftmaxWithLoss
from fastnn.models import Network, TwoLayerNet
from fastnn.optimizer import SGD, Adam
from fastnn.serialize import load_arrays, save_arrays
from fastnn.trainer import RnnlmTrainer, Trainer

N = 53
X = np.random.default_rng(0).standard_normal((N, 7)).astype("float32")
T = np.random.default_rng(1).integers(3, size=N)
GENERATORS = {
    "an int": lambda: 5,
    "PCG64": lambda: np.random.default_rng(5),
    "MT19937": lambda: np.random.Generator(np.random.MT19937(5)),
    "Philox": lambda: np.random.Generator(np.random.Philox(5)),
    "SFC64": lambda: np.random.Generator(np.random.SFC64(5)),
    "RandomState": lambda: np.random.RandomState(5),
    "global": lambda: np.random.seed(5),
}


def trainer(optimizer=SGD, compiled=True, hidden=5):
    return Trainer(TwoLayerNet(7, hidden, 3, rng=0), optimizer(lr=0.1), compiled=compiled)


def fit(a_trainer, rng=5, epochs=4, **options):
    a_trainer.fit(X, T, epochs, batch_size=8, eval_interval=4, verbose=False, validation=(X, T), rng=rng, **options)
    return a_trainer


def assert_same(a, b):
    for p, q in zip(a.model.params, b.model.params, strict=True):
        assert_array_equal(p, q)
    assert (a.loss_list, a.accuracy_list, a.current_epoch) == (b.loss_list, b.accuracy_list, b.current_epoch)
    for name, value in a.optimizer.state().items():
        assert_array_equal(value, b.optimizer.state()[name])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.safetensors"


class Stop(Exception):
    pass


def interrupt(a_trainer, path, after, rng, monkeypatch):
    """Train with checkpoints at each iteration until `after` of them are written, then die."""
    save, count = Trainer.save, itertools.count(1)

    def save_and_stop(self, path):
        save(self, path)
        if next(count) == after:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Trainer, "save", save_and_stop)
        fit(a_trainer, rng, checkpoint=path, checkpoint_every=1)


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("compiled", [True, False])
def test_going_on_equals_never_stopping(kind, compiled, path, monkeypatch):
    whole = fit(trainer(compiled=compiled), GENERATORS[kind]())
    interrupt(trainer(compiled=compiled), path, 9, GENERATORS[kind](), monkeypatch)
    again = trainer(compiled=compiled)
    again.resume(path)
    assert again.current_epoch == 1 and again.loss_list == whole.loss_list[: len(again.loss_list)]
    np.random.seed(99)  # what the process that goes on did before does not matter
    assert_same(
        fit(
            again,
            None if kind == "global" else np.random.RandomState(1) if kind == "RandomState" else GENERATORS[kind](),
        ),
        whole,
    )


@pytest.mark.parametrize("after", range(1, 25))
def test_from_every_iteration(after, path, monkeypatch):
    interrupt(trainer(), path, after, 5, monkeypatch)
    again = trainer()
    again.resume(path)
    assert_same(fit(again), fit(trainer()))


@pytest.mark.parametrize("extension", [".safetensors", ".npz"])
def test_both_formats_and_a_finished_fit(extension, tmp_path):
    path = tmp_path / f"checkpoint{extension}"
    done = fit(trainer())
    done.save(path)
    again = trainer()
    again.resume(path)
    assert_same(again, done)
    assert_same(fit(again), fit(done))  # a second fit


def test_checkpoints_change_nothing(path):
    assert_same(fit(trainer(), checkpoint=path, checkpoint_every=3), fit(trainer()))


def test_after_ctrl_c(path, monkeypatch):
    stopped = trainer()

    def accuracy(x, t):
        if stopped.current_epoch == 2:
            raise KeyboardInterrupt
        return TwoLayerNet.accuracy(stopped.model, x, t)

    monkeypatch.setattr(stopped.model, "accuracy", accuracy, raising=False)
    assert fit(stopped).interrupted
    stopped.save(path)
    again = trainer()
    again.resume(path)
    assert_same(fit(again), fit(trainer()))


def test_sequences(path, monkeypatch):
    class Model:
        def __init__(self):
            self.params, self.grads = [np.zeros(20)], [np.zeros(20)]

        def forward(self, xs, ts):
            self.seen = xs.ravel()
            return float(self.params[0][self.seen].sum() + 1)

        def backward(self):
            self.grads[0][...] = np.bincount(self.seen, minlength=20)

    words = np.random.default_rng(0).integers(20, size=101)

    def run(a_trainer, **options):
        a_trainer.fit(words[:-1], words[1:], 3, 5, 2, eval_interval=3, verbose=False, **options)
        return a_trainer

    whole = run(RnnlmTrainer(Model(), SGD(0.01)))
    stopped = RnnlmTrainer(Model(), SGD(0.01))
    batches = itertools.count()
    get_batch = stopped.get_batch

    def get_or_stop(*args, **kwargs):
        if next(batches) == 14:
            raise KeyboardInterrupt
        return get_batch(*args, **kwargs)

    stopped.get_batch = get_or_stop
    run(stopped)
    stopped.save(path)
    again = RnnlmTrainer(Model(), SGD(0.01))
    again.resume(path)
    assert again.current_epoch == 1
    run(again)
    assert_array_equal(again.model.params[0], whole.model.params[0])
    assert (again.ppl_list, again.time_idx) == (whole.ppl_list, whole.time_idx)


@pytest.mark.parametrize("seed", [7, None])
def test_layers_that_remember_and_draw(seed, path, monkeypatch):
    def new(shared):
        weights = np.random.default_rng(3)
        W, V = weights.standard_normal((7, 6)), weights.standard_normal((6, 3))
        layers = {
            "affine1": Affine(W, np.zeros(6)),
            "norm": BatchNormalization(np.ones(6), np.zeros(6)),
            "dropout": Dropout(0.3, rng=seed if shared is None else shared),
            "affine2": Affine(V, np.zeros(3)),
        }
        return Trainer(Network(layers, SoftmaxWithLoss()), Adam(0.01))

    def generator(kind):
        if seed is None:
            np.random.seed(kind)
            return None
        return np.random.default_rng(kind)

    rng = generator(1)
    whole = fit(new(rng), rng)
    rng = generator(1)
    interrupt(new(rng), path, 9, rng, monkeypatch)
    rng = generator(2)
    again = new(rng)
    again.resume(path)
    assert_same(fit(again, rng), whole)
    assert_array_equal(again.model.layers["norm"].running_var, whole.model.layers["norm"].running_var)


def test_what_does_not_fit_changes_nothing(path):
    fit(trainer()).save(path)
    other = trainer(hidden=6)
    before = copy.deepcopy(other.model.params[:])
    with pytest.raises(
        ValueError, match=r"parameter 0 must be float32 of shape \(7, 6\), the checkpoint has .* \(7, 5\)"
    ):
        other.resume(path)
    for p, q in zip(other.model.params, before, strict=True):
        assert_array_equal(p, q)
    assert other.current_epoch == 0
    fit(trainer(Adam)).save(path)
    save_arrays(path, load_arrays(path) | {"optimizer.v.1": np.zeros(1, "float32")}, dtype=None)
    other = trainer(Adam)
    with pytest.raises(ValueError, match=r"Adam: parameter 1 must be float32 of shape \(1,\) as its state"):
        other.resume(path)
    for p, q in zip(other.model.params, trainer().model.params, strict=True):
        assert_array_equal(p, q)
    assert (other.current_epoch, other.optimizer.iter) == (0, 0)


def test_other_data_and_generators_are_refused(path, monkeypatch):
    interrupt(trainer(), path, 9, 5, monkeypatch)
    again = trainer()
    again.resume(path)
    with pytest.raises(ValueError, match="the checkpoint is of 53 samples, got 20"):
        again.fit(X[:20], T[:20], verbose=False, rng=5)
    with pytest.raises(ValueError, match="rng must be a generator 'PCG64' with the state in the checkpoint"):
        fit(again, np.random.RandomState(1))
    assert_same(fit(again), fit(trainer()))  # it goes on from there all the same


def damaged(arrays):
    """Checkpoints with one thing wrong each."""
    values = json.loads(arrays["values"].tobytes())

    def with_values(**changes):
        text = json.dumps(values | changes).encode()
        return arrays | {"values": np.frombuffer(text, np.uint8)}

    yield {}
    yield {name: a for name, a in arrays.items() if name != "order"}
    yield {name: a for name, a in arrays.items() if name != "list.loss_list"}
    yield arrays | {"values": np.arange(5)}
    yield arrays | {"values": np.frombuffer(b"[" * 100_000, np.uint8)}
    yield arrays | {"values": np.frombuffer(b"[1]", np.uint8)}
    yield arrays | {"other": np.arange(5)}
    yield arrays | {"order": np.zeros(N, np.intp)}
    yield arrays | {"order": np.arange(N) - 1}
    yield arrays | {"order": np.arange(float(N))}
    yield arrays | {"list.loss_list": np.zeros((2, 2))}
    yield with_values(progress={"epoch": 1})
    yield with_values(progress=3)
    yield with_values(layer_rngs=3)
    yield with_values(progress=values["progress"] | {"epoch": -1})
    yield with_values(progress=values["progress"] | {"epoch": 1.5})
    yield with_values(counts={})
    yield with_values(counts={"current_epoch": "many"})
    yield with_values(counts={"current_epoch": 1, "model": 1})


def test_damaged_checkpoints(path):
    fit(trainer()).save(path)
    for i, arrays in enumerate(damaged(load_arrays(path))):
        save_arrays(path, arrays, dtype=None)
        again = trainer()
        with pytest.raises(FileFormatError) as info:
            again.resume(path)
        assert re.fullmatch(r"'[^\n]*': not a checkpoint of this kind of trainer: [^\n]*", str(info.value)), i


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["state"].update(pos=10**6),  # NumPy itself would crash
        lambda s: s["state"].update(pos=-1),
        lambda s: s["state"].update(key=[1, 2]),
        lambda s: s["state"].update(key="x"),
        lambda s: s.pop("state"),
        lambda s: s.update(state=3),
    ],
)
def test_a_hostile_generator_state(change, path, monkeypatch):
    interrupt(trainer(), path, 3, np.random.RandomState(0), monkeypatch)
    arrays = load_arrays(path)
    values = json.loads(arrays["values"].tobytes())
    change(values["rng"])
    save_arrays(path, arrays | {"values": np.frombuffer(json.dumps(values).encode(), np.uint8)}, dtype=None)
    again = trainer()
    again.resume(path)
    with pytest.raises(ValueError, match="rng must be a generator 'MT19937' with the state in the checkpoint"):
        fit(again, np.random.RandomState(0))


def test_errors_in_one_line(path):
    class Plain:
        def update(self, params, grads):
            pass

    with pytest.raises(TypeError, match=r"Trainer.save: the optimizer must have state and load_state; Plain has none"):
        Trainer(TwoLayerNet(7, 5, 3), Plain()).save(path)
    with pytest.raises(TypeError, match="checkpoint and checkpoint_every need each other"):
        fit(trainer(), checkpoint=path)
    with pytest.raises(ValueError, match="checkpoint_every must be at least 1, got 0"):
        fit(trainer(), checkpoint=path, checkpoint_every=0)
    for wrong, message in [
        (path.with_suffix(".txt"), "the name must end in"),
        (path.with_suffix(".pkl"), ".pkl files are only read"),
        (path / "below.npz", "does not exist"),
    ]:
        begun = trainer()
        with pytest.raises((ValueError, OSError), match=message):
            fit(begun, checkpoint=wrong, checkpoint_every=100)
        assert begun.current_epoch == 0  # said before the training, not when the first is written
