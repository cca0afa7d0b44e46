"""fastnn/trainer.py against the book's loops, written out naively here, on a small NumPy model."""

import math
import os
import re
import signal
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.trainer import RnnlmTrainer, Trainer, remove_duplicate


class Softmax2:
    """x (N, D) -> softmax(x @ W + b), mean cross-entropy; nothing of fastnn in it."""

    def __init__(self, inputs=2, classes=3, seed=0):
        rng = np.random.default_rng(seed)
        self.params = [0.1 * rng.standard_normal((inputs, classes)), np.zeros(classes)]
        self.grads = [np.zeros_like(p) for p in self.params]
        self.batches = []

    def predict(self, x):
        return x @ self.params[0] + self.params[1]

    def forward(self, x, t):
        self.batches.append((x.copy(), t.copy()))
        self.x, self.t = x, t
        scores = self.predict(x)
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        self.y = e / e.sum(axis=1, keepdims=True)
        return -np.log(self.y[np.arange(len(t)), t]).mean()

    def backward(self):
        d = self.y.copy()
        d[np.arange(len(d)), self.t] -= 1
        d /= len(d)
        self.grads[0][...] = self.x.T @ d
        self.grads[1][...] = d.sum(axis=0)

    def accuracy(self, x, t):
        return (self.predict(x).argmax(axis=1) == t).mean()


class Bigram:
    """Sequence model: scores of the next id are a row of W; x and t are (batch, time) ids."""

    def __init__(self, words=7):
        self.params = [np.random.default_rng(1).standard_normal((words, words))]
        self.grads = [np.zeros((words, words))]
        self.batches = []

    def forward(self, x, t):
        self.batches.append((x.copy(), t.copy()))
        self.x, self.t = x.ravel(), t.ravel()
        e = np.exp(self.params[0][self.x])
        self.y = e / e.sum(axis=1, keepdims=True)
        return -np.log(self.y[np.arange(len(self.t)), self.t]).mean()

    def backward(self):
        d = self.y.copy()
        d[np.arange(len(d)), self.t] -= 1
        self.grads[0][...] = 0
        np.add.at(self.grads[0], self.x, d / len(d))


class SGD:
    def __init__(self, lr=0.5):
        self.lr = lr

    def update(self, params, grads):
        for p, g in zip(params, grads, strict=True):
            p -= self.lr * g


def clip(grads, max_norm):  # the book's
    norm = math.sqrt(sum((g**2).sum() for g in grads))
    rate = max_norm / (norm + 1e-6)
    if rate < 1:
        for g in grads:
            g *= rate


def book_fit(model, optimizer, x, t, max_epoch, batch_size, max_grad, eval_interval, permutation):
    """Deep Learning from Scratch 2, common/trainer.py, class Trainer."""
    loss_list, lines = [], []
    max_iters = len(x) // batch_size
    total_loss, loss_count = 0, 0
    for epoch in range(max_epoch):
        idx = permutation(np.arange(len(x)))
        x, t = x[idx], t[idx]
        for iters in range(max_iters):
            batch_x = x[iters * batch_size : (iters + 1) * batch_size]
            batch_t = t[iters * batch_size : (iters + 1) * batch_size]
            loss = model.forward(batch_x, batch_t)
            model.backward()
            if max_grad is not None:
                clip(model.grads, max_grad)
            optimizer.update(model.params, model.grads)
            total_loss += loss
            loss_count += 1
            if (eval_interval is not None) and (iters % eval_interval) == 0:
                avg_loss = total_loss / loss_count
                elapsed_time = 0
                lines.append(
                    "| epoch %d |  iter %d / %d | time %d[s] | loss %.2f"  # noqa: UP031  (the book's own)
                    % (epoch + 1, iters + 1, max_iters, elapsed_time, avg_loss)
                )
                loss_list.append(float(avg_loss))
                total_loss, loss_count = 0, 0
    return loss_list, lines


def book_windows(xs, ts, max_epoch, batch_size, time_size):
    """The mini-batches of Deep Learning from Scratch 2, common/trainer.py, class RnnlmTrainer."""
    data_size = len(xs)
    max_iters = data_size // (batch_size * time_size)
    time_idx = 0
    for _ in range(max_epoch * max_iters):
        batch_x = np.empty((batch_size, time_size), dtype="i")
        batch_t = np.empty((batch_size, time_size), dtype="i")
        jump = data_size // batch_size
        offsets = [i * jump for i in range(batch_size)]
        for time in range(time_size):
            for i, offset in enumerate(offsets):
                batch_x[i, time] = xs[(offset + time_idx) % data_size]
                batch_t[i, time] = ts[(offset + time_idx) % data_size]
            time_idx += 1
        yield batch_x, batch_t


def blobs(n=50, dtype="float64"):
    rng = np.random.default_rng(5)
    t = rng.integers(3, size=n)
    return (rng.standard_normal((n, 2)) + np.array([[0, 2], [2, 0], [-2, -2]])[t]).astype(dtype), t


QUIET = {"verbose": False}


# --- Trainer ----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 40),
    max_epoch=st.integers(0, 3),
    eval_interval=st.none() | st.integers(1, 12),
    max_grad=st.none() | st.sampled_from([0.01, 0.5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_books_loop(n, batch_size, max_epoch, eval_interval, max_grad, seed):
    batch_size = min(batch_size, n)
    x, t = blobs(n)
    want, got = Softmax2(), Softmax2()
    curve, _ = book_fit(
        want, SGD(), x, t, max_epoch, batch_size, max_grad, eval_interval, np.random.RandomState(seed).permutation
    )
    trainer = Trainer(got, SGD())
    trainer.fit(x, t, max_epoch, batch_size, max_grad, eval_interval, rng=np.random.RandomState(seed), **QUIET)
    np.testing.assert_equal(got.batches, want.batches)
    np.testing.assert_allclose(trainer.loss_list, curve, rtol=1e-12, atol=0)
    np.testing.assert_allclose(got.params[0], want.params[0], rtol=1e-12, atol=0)
    assert trainer.current_epoch == max_epoch
    assert trainer.eval_interval == eval_interval


def test_without_rng_the_global_random_state_gives_the_books_order():
    x, t = blobs()
    saved = np.random.get_state()
    try:
        np.random.seed(1984)
        curve, _ = book_fit(Softmax2(), SGD(), x, t, 3, 8, None, 2, np.random.permutation)
        after = np.random.rand()
        np.random.seed(1984)
        trainer = Trainer(Softmax2(), SGD())
        trainer.fit(x, t, 3, 8, None, 2, **QUIET)
        assert np.random.rand() == after  # and it is left where the book leaves it
    finally:
        np.random.set_state(saved)
    assert trainer.loss_list == curve


def test_prints_the_books_lines(capsys):
    x, t = blobs()
    _, lines = book_fit(Softmax2(), SGD(), x, t, 2, 5, None, 3, np.random.RandomState(3).permutation)
    Trainer(Softmax2(), SGD()).fit(x, t, 2, 5, None, 3, rng=np.random.RandomState(3))
    printed = capsys.readouterr()
    assert printed.out.splitlines() == lines
    assert lines[0] == "| epoch 1 |  iter 1 / 10 | time 0[s] | loss 1.14"
    assert printed.err == ""  # stderr is no terminal here: no bar


@pytest.mark.parametrize(
    ("verbose", "epochs"), [(False, []), (0, []), (True, [1, 2, 3, 4, 5]), (2, [1, 2, 4]), (9, [1])]
)
def test_verbose_thins_the_lines_but_not_the_curve(capsys, verbose, epochs):
    x, t = blobs()
    trainer = Trainer(Softmax2(), SGD())
    trainer.fit(x, t, max_epoch=5, batch_size=50, eval_interval=1, verbose=verbose, rng=0)
    assert [int(e) for e in re.findall(r"epoch (\d+)", capsys.readouterr().out)] == epochs
    assert len(trainer.loss_list) == 5


def test_learns_and_fit_called_twice_goes_on_counting(capsys):
    x, t = blobs(200)
    model = Softmax2()
    trainer = Trainer(model, SGD())
    trainer.fit(x, t, max_epoch=2, batch_size=20, eval_interval=5, rng=0)
    first = list(trainer.loss_list)
    trainer.fit(x, t, max_epoch=3, batch_size=20, eval_interval=5, rng=0)
    assert trainer.loss_list[: len(first)] == first
    assert len(trainer.loss_list) == 2 * 2 + 3 * 2
    assert trainer.current_epoch == 5
    assert capsys.readouterr().out.splitlines()[-1].startswith("| epoch 5 |  iter 6 / 10 |")
    assert trainer.loss_list[-1] < 0.5 * trainer.loss_list[0]
    assert model.accuracy(x, t) > 0.9


def test_batch_size_above_the_data_size_trains_on_everything():
    x, t = blobs(7)
    model = Softmax2()
    Trainer(model, SGD()).fit(x, t, max_epoch=2, batch_size=100, rng=0, **QUIET)
    assert [len(bt) for _, bt in model.batches] == [7, 7]
    for _, bt in model.batches:
        np.testing.assert_array_equal(np.sort(bt), np.sort(t))


@pytest.mark.parametrize("rng", [11, np.int64(11), lambda: np.random.default_rng(11)], ids=["int", "int64", "rng"])
def test_rng(rng):
    x, t = blobs()
    want, got = Softmax2(), Softmax2()
    book_fit(want, SGD(), x, t, 2, 8, None, 2, np.random.default_rng(11).permutation)
    before = np.random.get_state()[1].copy()
    Trainer(got, SGD()).fit(x, t, 2, 8, rng=rng() if callable(rng) else rng, **QUIET)
    np.testing.assert_equal(got.batches, want.batches)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


LAYOUTS = {
    "C": lambda a: a,
    "list": lambda a: a.tolist(),
    "Fortran": np.asfortranarray,
    "every other": lambda a: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "unaligned": lambda a: np.frombuffer(b"." + a.tobytes(), "u1")[1:].view(a.dtype).reshape(a.shape),
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout_and_the_data_is_left_alone(layout):
    x, t = blobs()
    x2, t2 = LAYOUTS[layout](x), LAYOUTS[layout](t)
    kept = np.array(x2), np.array(t2)
    for a in (x2, t2):
        if isinstance(a, np.ndarray):
            a.flags.writeable = False
    want, got = Softmax2(), Softmax2()
    Trainer(want, SGD()).fit(x, t, 2, 8, rng=0, **QUIET)
    Trainer(got, SGD()).fit(x2, t2, 2, 8, rng=0, **QUIET)
    np.testing.assert_equal(got.batches, want.batches)
    np.testing.assert_array_equal(x2, kept[0])
    np.testing.assert_array_equal(t2, kept[1])


@pytest.mark.parametrize("make", [np.ascontiguousarray, np.asfortranarray], ids=["C", "Fortran"])
def test_never_copies_the_data_set(make):
    import tracemalloc

    x = make(np.zeros((2000, 500)))  # 8 MB
    t = np.zeros(2000, int)
    model = types.SimpleNamespace(forward=lambda x, t: 0.0, backward=lambda: None, params=[], grads=[])
    tracemalloc.start()
    try:
        Trainer(model, SGD()).fit(x, t, max_epoch=2, batch_size=10, rng=0, **QUIET)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1e6


def test_verbose_thins_the_accuracy_lines_with_the_others(capsys):
    x, t = blobs()
    trainer = Trainer(Softmax2(), SGD())
    trainer.fit(x, t, max_epoch=5, batch_size=50, eval_interval=1, verbose=2, validation=(x, t), rng=0)
    assert re.findall(r"epoch (\d)", capsys.readouterr().out) == ["1", "1", "2", "2", "4", "4"]
    assert len(trainer.accuracy_list) == 5


def test_validation_accuracy_of_every_epoch(capsys):
    x, t = blobs(60)
    model = Softmax2()
    trainer = Trainer(model, SGD())
    trainer.fit(x[:40], t[:40], max_epoch=3, batch_size=8, eval_interval=None, rng=0, validation=(x[40:], t[40:]))
    assert len(trainer.accuracy_list) == 3
    assert trainer.accuracy_list[-1] == model.accuracy(x[40:], t[40:])
    assert trainer.loss_list == []
    out = capsys.readouterr().out.splitlines()
    assert out == [f"| epoch {e + 1} |  validation accuracy {a:.4f}" for e, a in enumerate(trainer.accuracy_list)]


def test_shared_weights_are_updated_once():
    shared = np.ones(3)

    model = types.SimpleNamespace(
        params=[shared, shared],
        grads=[np.array([1.0, 0, 0]), np.array([0, 2.0, 0])],
        forward=lambda x, t: 0.0,
        backward=lambda: None,
    )
    updates = []
    optimizer = types.SimpleNamespace(update=lambda params, grads: updates.append((list(params), list(grads))))
    Trainer(model, optimizer).fit(np.zeros((1, 1)), np.zeros(1), max_epoch=1, **QUIET)
    ((params, grads),) = updates
    assert len(params) == 1 and params[0] is shared
    np.testing.assert_array_equal(grads, [[1, 2, 0]])


def test_remove_duplicate_is_where_the_book_has_it():
    from fastnn.util import remove_duplicate as of_util

    assert remove_duplicate is of_util


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"t": np.zeros(3, int)}, r"t must have as many rows as x, 4, got 3"),
        ({"x": np.zeros((0, 2)), "t": np.zeros(0, int)}, r"x must have at least one row, got shape \(0, 2\)"),
        ({"x": np.float64(3)}, r"x must be an array with one row per sample, got array\(3\.\)"),
        ({"batch_size": 0}, r"batch_size must be at least 1, got 0"),
        ({"batch_size": 2.5}, r"batch_size must be an integer, got 2.5"),
        ({"max_epoch": -1}, r"max_epoch must be at least 0, got -1"),
        ({"eval_interval": 0}, r"eval_interval must be at least 1, got 0"),
        ({"max_grad": 0}, r"max_grad must be a positive number or None, got 0"),
        ({"max_grad": math.nan}, r"max_grad must be a positive number or None, got nan"),
        ({"rng": "seed"}, r"rng must be a numpy Generator, a RandomState, an integer >= 0 or None, got 'seed'"),
        ({"rng": -1}, r"rng must be .*, got -1"),
        ({"validation": 3}, r"validation must be a pair \(x, t\), got int"),
        (
            {"validation": (np.zeros((2, 2)), np.zeros(3))},
            r"validation t must have as many rows as validation x, 2, got 3",
        ),
    ],
)
def test_wrong_arguments_get_one_line(kwargs, message):
    model = Softmax2()
    trainer = Trainer(model, SGD())
    with pytest.raises((ValueError, TypeError), match=f"^Trainer.fit: {message}$"):
        trainer.fit(**{"x": np.zeros((4, 2)), "t": np.zeros(4, int), **kwargs})
    assert model.batches == []


def test_wrong_model_gets_one_line():
    data = np.zeros((4, 2)), np.zeros(4, int)
    no_backward = types.SimpleNamespace(forward=None, params=[], grads=[])
    with pytest.raises(TypeError, match=r"the model must have forward, backward, params, grads; .* has no backward"):
        Trainer(no_backward, SGD()).fit(*data)
    with pytest.raises(TypeError, match="the optimizer must have update; NoneType has no update"):
        Trainer(Softmax2(), None).fit(*data)
    with pytest.raises(TypeError, match=r"validation needs a model with accuracy\(x, t\); Bigram has none"):
        Trainer(Bigram(), SGD()).fit(*data, validation=data)


# --- the bar ----------------------------------------------------------------------------------------------------


def test_progress_bar_when_asked_for(capsys):
    x, t = blobs()
    Trainer(Softmax2(), SGD()).fit(x, t, max_epoch=2, batch_size=5, eval_interval=5, progress=True, rng=0)
    out, err = capsys.readouterr()
    assert "20/20" in err and "epoch 2" in err and "loss" in err
    assert [line for line in out.splitlines() if line] == [line for line in out.splitlines() if "| loss " in line] != []


def test_lines_do_not_tear_the_bar(monkeypatch, capsys):
    from tqdm.auto import tqdm

    lines = []
    monkeypatch.setattr(tqdm, "write", lambda _, line: lines.append(line))
    Trainer(CtrlCModel(at=3), SGD()).fit(*blobs(), batch_size=5, eval_interval=2, progress=True, rng=0)
    assert [line.split()[1] for line in lines] == ["epoch", "stopped"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("verbose", "tty", "bar"), [(True, True, True), (True, False, False), (False, True, False)])
def test_progress_bar_by_default_on_a_terminal(capsys, monkeypatch, verbose, tty, bar):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: tty)
    Trainer(Softmax2(), SGD()).fit(*blobs(), max_epoch=1, verbose=verbose, rng=0)
    assert ("epoch 1" in capsys.readouterr().err) == bar


# --- Ctrl-C -----------------------------------------------------------------------------------------------------


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


class CtrlCModel(Softmax2):
    """Presses Ctrl-C in the n-th forward."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def forward(self, x, t):
        if len(self.batches) + 1 == self.at:
            press_ctrl_c()
        return super().forward(x, t)


class CtrlCSGD(SGD):
    """Presses Ctrl-C in the n-th update, between two parameters."""

    def __init__(self, at, times=1):
        super().__init__()
        self.at, self.times, self.updates = at, times, 0

    def update(self, params, grads):
        self.updates += 1
        for p, g in zip(params, grads, strict=True):
            p -= self.lr * g
            if self.updates == self.at and p is params[0]:
                for _ in range(self.times):
                    press_ctrl_c()


def expected_after(steps, x, t):
    """Parameters and curve (eval_interval 2, batches of 5) after so many whole iterations."""
    model, count = Softmax2(), 0

    class Stop(Exception):
        pass

    class Counting(SGD):
        def update(self, params, grads):
            nonlocal count
            if count == steps:
                raise Stop
            count += 1
            super().update(params, grads)

    trainer = Trainer(model, Counting())
    with pytest.raises(Stop):
        trainer.fit(x, t, 5, 5, None, 2, rng=0, **QUIET)
    return model.params, trainer.loss_list


def test_ctrl_c_between_updates(capsys):
    x, t = blobs()
    model = CtrlCModel(at=18)  # in the forward of iteration 8 of epoch 2: 17 updates are done
    trainer = Trainer(model, SGD())
    trainer.fit(x, t, 5, 5, None, 2, rng=0, **QUIET)
    params, curve = expected_after(17, x, t)
    np.testing.assert_equal(model.params, params)
    assert trainer.loss_list == curve
    assert trainer.interrupted and trainer.current_epoch == 1
    line = "| stopped by Ctrl-C in epoch 2 after iter 7 / 10; the model keeps what it has learned\n"
    assert capsys.readouterr().out == line


def test_ctrl_c_within_an_update_waits_for_its_end(capsys):
    x, t = blobs()
    model = Softmax2()
    trainer = Trainer(model, CtrlCSGD(at=13))
    trainer.fit(x, t, 5, 5, None, 2, rng=0, **QUIET)
    params, curve = expected_after(13, x, t)
    np.testing.assert_equal(model.params, params)
    assert trainer.loss_list == curve and len(curve) == 5 + 2
    assert "epoch 2 after iter 3 / 10" in capsys.readouterr().out


def test_second_ctrl_c_does_not_wait():
    model = Softmax2()
    before = [p.copy() for p in model.params]
    Trainer(model, CtrlCSGD(at=1, times=2)).fit(*blobs(), rng=0, **QUIET)
    assert not np.array_equal(model.params[0], before[0])
    np.testing.assert_array_equal(model.params[1], before[1])


def test_after_ctrl_c_training_can_go_on_and_the_handler_is_back():
    x, t = blobs()
    trainer = Trainer(CtrlCModel(at=18), SGD())
    trainer.fit(x, t, 5, 5, None, 2, rng=0, **QUIET)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    trainer.model.at = 0
    trainer.fit(x, t, 2, 5, None, 2, rng=0, **QUIET)
    assert not trainer.interrupted and trainer.current_epoch == 3
    with pytest.raises(ValueError):
        trainer.fit(x, t[:3])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_during_validation_does_not_count_the_epoch():
    x, t = blobs()
    model = Softmax2()
    model.accuracy = lambda x, t: press_ctrl_c() or 0.5
    trainer = Trainer(model, SGD())
    trainer.fit(x, t, 5, 5, rng=0, validation=(x, t), **QUIET)
    assert (trainer.current_epoch, trainer.accuracy_list, trainer.interrupted) == (0, [], True)


def test_somebody_elses_handler_stays():
    seen = []
    old = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        trainer = Trainer(CtrlCModel(at=2), SGD())
        trainer.fit(*blobs(), max_epoch=1, batch_size=5, rng=0, **QUIET)
    finally:
        signal.signal(signal.SIGINT, old)
    assert seen == [1] and trainer.current_epoch == 1


def test_fit_in_another_thread():
    trainer = Trainer(Softmax2(), SGD())
    thread = threading.Thread(target=trainer.fit, args=blobs(), kwargs={"rng": 0, **QUIET})
    thread.start()
    thread.join()
    assert trainer.current_epoch == 10


def test_errors_of_the_model_pass_through():
    class Broken(Softmax2):
        def backward(self):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        Trainer(Broken(), SGD()).fit(*blobs(), **QUIET)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- RnnlmTrainer -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 60), batch_size=st.integers(1, 6), time_size=st.integers(1, 6), max_epoch=st.integers(0, 3))
def test_windows_are_the_books(n, batch_size, time_size, max_epoch):
    n = max(n, batch_size * time_size)
    corpus = np.random.default_rng(n).integers(7, size=n + 1)
    model = Bigram()
    trainer = RnnlmTrainer(model, SGD())
    trainer.fit(corpus[:-1], corpus[1:], max_epoch, batch_size, time_size, **QUIET)
    want = list(book_windows(corpus[:-1], corpus[1:], max_epoch, batch_size, time_size))
    np.testing.assert_equal(model.batches, want)
    assert trainer.time_idx == len(want) * time_size
    assert trainer.current_epoch == max_epoch


def test_windows_wrap_around():
    trainer = RnnlmTrainer(None, None)
    xs = list(range(10))
    got = [trainer.get_batch(xs, xs, 2, 4)[0].tolist() for _ in range(2)]
    assert got == [[[0, 1, 2, 3], [5, 6, 7, 8]], [[4, 5, 6, 7], [9, 0, 1, 2]]]
    assert trainer.get_batch(xs, xs, 2, 4)[0].dtype == np.int32
    assert trainer.time_idx == 12


def test_perplexity(capsys):
    corpus = np.tile([0, 1, 2, 3, 4, 5, 6], 40)
    model = Bigram()
    trainer = RnnlmTrainer(model, SGD(2.0))
    trainer.fit(corpus[:-1], corpus[1:], max_epoch=2, batch_size=4, time_size=7, eval_interval=4)
    replay, losses = Bigram(), []
    for bx, bt in model.batches:
        losses.append(replay.forward(bx, bt))
        replay.backward()
        SGD(2.0).update(replay.params, replay.grads)
    assert len(losses) == 18  # 279 // (4 * 7) = 9 an epoch, evaluated at its iterations 1, 5, 9
    groups = [losses[:1], losses[1:5], losses[5:9], losses[9:10], losses[10:14], losses[14:18]]
    want = [math.exp(np.mean(g)) for g in groups]
    np.testing.assert_allclose(trainer.ppl_list, want, rtol=1e-12)
    assert trainer.ppl_list[-1] < 0.5 * trainer.ppl_list[0]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"| epoch 1 |  iter 5 / 9 | time 0[s] | perplexity {want[1]:.2f}"
    assert len(lines) == 6
    trainer.fit(corpus[:-1], corpus[1:], max_epoch=1, batch_size=4, time_size=7, eval_interval=4, verbose=False)
    assert len(trainer.ppl_list) == 3 and trainer.current_epoch == 3  # as in the book: the list is of the latest fit


def test_a_short_sequence_still_trains():
    model = Bigram()
    RnnlmTrainer(model, SGD()).fit([0, 1, 2], [1, 2, 3], max_epoch=2, batch_size=2, time_size=5, **QUIET)
    assert len(model.batches) == 2
    assert model.batches[0][0].tolist() == [[0, 1, 2, 0, 1], [1, 2, 0, 1, 2]]


def test_diverged_perplexity_is_inf_without_a_warning():
    model = types.SimpleNamespace(forward=lambda x, t: 1e4, backward=lambda: None, params=[], grads=[])
    trainer = RnnlmTrainer(model, SGD())
    trainer.fit([0, 1], [1, 0], max_epoch=1, batch_size=1, time_size=1, **QUIET)
    assert trainer.ppl_list == [math.inf]


def test_rnnlm_ctrl_c(capsys):
    trainer = RnnlmTrainer(Bigram(), CtrlCSGD(at=3))
    trainer.fit(np.arange(100) % 7, np.arange(1, 101) % 7, 4, 2, 10, verbose=False)
    assert trainer.interrupted
    assert "epoch 1 after iter 3 / 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"ts": [1, 2]}, "ts must have as many rows as xs, 4, got 2"),
        ({"xs": [], "ts": []}, r"xs must have at least one row, got shape \(0,\)"),
        ({"xs": np.zeros((4, 2), int)}, r"xs and ts must be sequences of ids, got shapes \(4, 2\) and \(4,\)"),
        ({"time_size": 0}, "time_size must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_rnnlm_wrong_arguments_get_one_line(kwargs, message):
    with pytest.raises(ValueError, match=f"^RnnlmTrainer.fit: {message}$"):
        RnnlmTrainer(Bigram(), SGD()).fit(**{"xs": [0, 1, 2, 3], "ts": [1, 2, 3, 4], **kwargs})


# --- plot, import -----------------------------------------------------------------------------------------------


def test_plot_draws_the_curve():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    trainer = Trainer(Softmax2(), SGD())
    trainer.fit(*blobs(), max_epoch=3, batch_size=5, eval_interval=2, rng=0, **QUIET)
    ax = figure.add_subplot()
    assert trainer.plot(ylim=(0, 2), ax=ax, show=False) is ax
    (line,) = ax.get_lines()
    np.testing.assert_array_equal(line.get_ydata(), trainer.loss_list)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_ylim()) == ("iterations (x2)", "loss", (0, 2))

    rnn = RnnlmTrainer(Bigram(), SGD())
    rnn.fit([0, 1, 2], [1, 2, 3], max_epoch=2, batch_size=1, time_size=1, eval_interval=1, **QUIET)
    ax = rnn.plot(ax=figure.add_subplot(), show=False)
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), rnn.ppl_list)
    assert ax.get_ylabel() == "perplexity"


def test_import_is_light():
    code = "import sys, fastnn.trainer; print([m for m in ('matplotlib', 'numba', 'tqdm', 'cupy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
