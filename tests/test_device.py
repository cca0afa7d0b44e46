"""Networks where their arrays are: `pytest --device cuda` on a GPU, or a simulated one, against the same on the CPU."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
import fastnn.np
from fastnn import cli, config, profiling
from fastnn._warmup import EXAMPLES
from fastnn.functions import cross_entropy_error, relu_grad, sigmoid, softmax, step_function, sum_squared_error
from fastnn.gradient import numerical_gradient
from fastnn.layers import Affine, Dropout, MeanSquaredError, Relu, Repeat, SoftmaxWithLoss, Sum, Tanh
from fastnn.models import MultiLayerNetExtend, Network, SimpleConvNet, TwoLayerNet
from fastnn.optimizer import SGD, Adam, Momentum
from fastnn.trainer import Trainer
from fastnn.util import clip_grads, remove_duplicate, to_cpu, to_gpu

TOL = {"float32": {"rtol": 2e-5, "atol": 2e-6}, "float64": {"rtol": 1e-12, "atol": 1e-13}}


def batch(seed=0, n=12):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 6)).astype("float32"), rng.integers(0, 3, n)


def two_layers(dtype="float32"):
    return TwoLayerNet(6, 5, 3, weight_init_std=0.5, dtype=dtype, rng=0)


# ---- layers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_layer(gpu, name, dtype):
    results = []
    for place in (np, gpu):
        rng = np.random.default_rng(0)
        make, shape, labels = EXAMPLES[name]
        layer = make(lambda *shape, rng=rng: rng.standard_normal(shape).astype(dtype))
        if place is gpu:
            assert layer.to("cuda") is layer
        x = rng.standard_normal(shape).astype(dtype)
        t = () if labels is None else (place.asarray(labels(x)),)
        y = layer.forward(place.asarray(x), *t)
        dx = layer.backward(place.asarray(rng.standard_normal(y.shape).astype(dtype)) if labels is None else 0.5)
        assert all(type(a) is place.ndarray for a in (dx, *layer.params, *layer.grads))
        results.append([to_cpu(a) for a in (y, dx, *layer.grads, *(getattr(layer, s) for s in layer.state_names))])
    for mine, reference in zip(*reversed(results), strict=True):
        assert mine.dtype == reference.dtype and mine.shape == reference.shape
        assert_allclose(mine, reference, **TOL[dtype])


def test_nodes(gpu):
    x = gpu.asarray(np.arange(6.0).reshape(1, 6))
    repeat, total = Repeat(3), Sum()
    assert_array_equal(to_cpu(total.forward(repeat.forward(x))), 3 * to_cpu(x))
    assert_array_equal(to_cpu(repeat.backward(total.backward(x))), 3 * to_cpu(x))


def test_functions(gpu):
    x = np.random.default_rng(0).standard_normal((4, 5))
    t = np.array([0, 4, 2, 2])
    there = gpu.asarray(x)
    for f in (sigmoid, softmax, relu_grad, step_function):
        assert_allclose(to_cpu(f(there)), f(x), rtol=1e-14)
    out = gpu.empty(x.shape, "float64")
    assert sigmoid(there, out=out) is out
    assert_allclose(to_cpu(out), sigmoid(x), rtol=1e-14)
    y = softmax(x)
    assert_allclose(float(cross_entropy_error(gpu.asarray(y), gpu.asarray(t))), cross_entropy_error(y, t))
    assert_allclose(float(sum_squared_error(there, there * 0)), sum_squared_error(x, x * 0))


def test_a_layer_recycles_its_output_only_when_nobody_holds_it(gpu):
    x, relu = gpu.asarray(np.array([[1.0, -2.0]])), Relu()
    held = relu.forward(x)
    relu.forward(x + 1)
    relu.forward(x + 2)
    assert_array_equal(to_cpu(held), [[1.0, 0.0]])


@pytest.mark.parametrize(
    "use",
    [
        lambda there, here: Affine(np.ones((3, 2)), np.ones(2)).forward(there),
        lambda there, here: Affine(np.ones((3, 2)), np.ones(2)).to("cuda").forward(here),
        lambda there, here: SoftmaxWithLoss().forward(there, np.array([0, 1])),
        lambda there, here: SoftmaxWithLoss().forward(here, to_gpu(np.array([0, 1]))),
        lambda there, here: (relu := Relu(), relu.forward(there), relu.backward(here)),
        lambda there, here: SGD().update([there], [here]),
        lambda there, here: fastnn.compile(TwoLayerNet(3, 4, 2).to("cuda"))(here),
        lambda there, here: sum_squared_error(there, here),
    ],
)
def test_mixed_devices_are_one_line(gpu, use):
    x = np.ones((2, 3))
    with pytest.raises(TypeError, match=r"arrays must be on one device, got one of shape .* on the GPU .* to_cpu") as e:
        use(gpu.asarray(x), x)
    assert "\n" not in str(e.value)


def test_numpy_does_not_read_them_by_accident(gpu):
    with pytest.raises(TypeError):
        np.asarray(Relu().forward(gpu.ones((2, 2))))


class Foreign:
    """An array of another library in the memory of a CuPy array."""

    def __init__(self, a):
        self.kept, self.__cuda_array_interface__ = a, a.__cuda_array_interface__


class ForeignByDlpack:
    """The same for DLPack only, as JAX's."""

    def __init__(self, a):
        self.__dlpack__, self.__dlpack_device__ = a.__dlpack__, a.__dlpack_device__


@pytest.mark.parametrize("foreign", [Foreign, ForeignByDlpack])
def test_arrays_of_other_libraries_are_read_in_place(gpu, foreign):
    x = gpu.asarray(np.array([[1.0, -2.0]]))
    out = Relu().forward(foreign(x))
    assert type(out) is gpu.ndarray
    assert_array_equal(to_cpu(out), [[1.0, 0.0]])
    there = to_gpu(foreign(x))
    assert type(there) is gpu.ndarray and there.data.ptr == x.data.ptr


def test_to_gpu_and_back(gpu):
    x = np.arange(3.0)
    there = to_gpu(x)
    assert type(there) is gpu.ndarray and to_gpu(there) is there and to_cpu(x) is x
    assert_array_equal(to_cpu(there), x)


# ---- models, optimizers, training -----------------------------------------------------------------------------------


def test_a_model_moves_there_and_back(gpu):
    net, (x, t) = two_layers(), batch()
    before, loss = [p.copy() for p in net.params], net.forward(x, t)
    assert net.to("cuda") is net
    assert all(type(p) is gpu.ndarray for p in (*net.params, *net.grads))
    assert net.params["W1"] is net.layers["Affine1"].W and net.grads["b2"] is net.layers["Affine2"].db
    assert_allclose(float(net.forward(gpu.asarray(x), gpu.asarray(t))), loss, rtol=1e-5)
    assert net.accuracy(gpu.asarray(x), gpu.asarray(t)) == two_layers().accuracy(x, t)
    net.to("cpu")
    for p, q in zip(net.params, before, strict=True):
        assert_array_equal(p, q)


def test_shared_weights_stay_shared(gpu):
    W = np.ones((3, 3), "float32")
    net = fastnn.models.Network({"a": fastnn.layers.MatMul(W), "b": fastnn.layers.MatMul(W)}, SoftmaxWithLoss())
    net.to("cuda")
    assert net.layers["a"].W is net.layers["b"].W
    params, grads = remove_duplicate(net.params, net.grads)
    assert len(params) == 1 and len(grads) == 1


def test_unknown_device():
    with pytest.raises(ValueError, match=r"^TwoLayerNet: device must be 'cpu' or 'cuda', got 'gpu'$"):
        two_layers().to("gpu")


@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize("max_grad", [None, 0.1])
def test_steps_are_those_of_the_cpu(gpu, optimizer, max_grad):
    x, t = batch()
    nets = two_layers("float64"), two_layers("float64").to("cuda")
    for net, place in zip(nets, (np, gpu), strict=True):
        rule = optimizer(lr=0.1)
        for _ in range(3):
            net.forward(place.asarray(x), place.asarray(t))
            net.backward()
            rule.update(net.params, net.grads, max_grad)
    for p, q in zip(nets[1].params, nets[0].params, strict=True):
        assert_allclose(to_cpu(p), q, rtol=1e-11, atol=1e-13)


def test_an_optimizer_moves_with_its_model(gpu):
    x, t = batch()
    results = []
    for moves in (False, True):
        net, rule = two_layers("float64"), Adam(lr=0.1)
        for step in range(4):
            if moves and step == 2:
                net.to("cuda")
            place = gpu if moves and step >= 2 else np
            net.forward(place.asarray(x), place.asarray(t))
            net.backward()
            rule.update(net.params, net.grads)
        assert all(isinstance(a, np.ndarray) for a in rule.state().values())
        results.append([to_cpu(p) for p in net.params])
    for p, q in zip(*results, strict=True):
        assert_allclose(p, q, rtol=1e-11, atol=1e-13)


def test_clip_grads(gpu):
    grads = [gpu.asarray(np.array([3.0])), gpu.asarray(np.array([4.0]))]
    assert clip_grads(grads, 1.0) == 5.0
    assert_allclose([to_cpu(g) for g in grads], [[0.6], [0.8]], rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_training_is_that_of_the_cpu(gpu, compiled):
    x, t = batch(n=40)
    losses = []
    for place in (np, gpu):
        net = two_layers("float64")
        if place is gpu:
            net.to("cuda")
        trainer = Trainer(net, Adam(lr=0.05), compiled=compiled)
        trainer.fit(
            place.asarray(x), place.asarray(t), max_epoch=3, batch_size=8, eval_interval=2, verbose=False, rng=0
        )
        losses.append(trainer.loss_list)
    assert len(losses[0]) > 5
    assert_allclose(losses[1], losses[0], rtol=1e-9)


@pytest.mark.parametrize("compiled", [False, True])
def test_labels_are_checked_once_a_fit(gpu, compiled):
    x, t = batch()
    t[3] = 7
    net = two_layers().to("cuda")
    trainer = Trainer(net, SGD(), compiled=compiled)
    with pytest.raises(ValueError, match=r"t must hold class indices in \[0, 3\), got 7"):
        trainer.fit(gpu.asarray(x), gpu.asarray(t), max_epoch=1, batch_size=4, verbose=False)


def test_a_checkpoint_goes_on_where_it_was(gpu, tmp_path):
    x, t = (gpu.asarray(a) for a in batch(n=40))
    settings = {"max_epoch": 2, "batch_size": 8, "eval_interval": 1, "verbose": False}
    whole = Trainer(two_layers().to("cuda"), Adam())
    whole.fit(x, t, rng=0, checkpoint=tmp_path / "c.npz", checkpoint_every=7, **settings)
    rest = Trainer(two_layers().to("cuda"), Adam())
    rest.resume(tmp_path / "c.npz")
    rest.fit(x, t, rng=0, **settings)
    assert rest.loss_list == whole.loss_list
    for p, q in zip(rest.model.params, whole.model.params, strict=True):
        assert_array_equal(to_cpu(p), to_cpu(q))


@pytest.mark.parametrize("dtype", ["float16", None])
def test_parameters_are_saved_and_loaded(gpu, tmp_path, dtype):
    net, other = two_layers().to("cuda"), TwoLayerNet(6, 5, 3, rng=1).to("cuda")
    net.save_params(tmp_path / "net.safetensors", dtype=dtype)
    other.load_params(tmp_path / "net.safetensors")
    for p, q in zip(other.params, net.params, strict=True):
        assert type(p) is gpu.ndarray
        assert_allclose(to_cpu(p), to_cpu(q), rtol=1e-3)


def test_images_with_all_layers(gpu):
    x = np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype("float32")
    t = np.array([0, 2, 1])
    param = {"filter_num": 2, "filter_size": 3, "pad": 0, "stride": 1}
    nets = [SimpleConvNet((1, 8, 8), param, hidden_size=4, output_size=3, rng=0) for _ in range(2)]
    nets[1].to("cuda")
    grads = [net.gradient(place.asarray(x), place.asarray(t)) for net, place in zip(nets, (np, gpu), strict=True)]
    for name, g in grads[1].items():
        assert_allclose(to_cpu(g), grads[0][name], rtol=1e-4, atol=1e-6)


def test_dropout_drops_the_same(gpu):
    x = np.ones((7, 9), "float32")
    assert_array_equal(to_cpu(Dropout(0.5, rng=0).forward(gpu.asarray(x))), Dropout(0.5, rng=0).forward(x))


def test_switch_of_the_book(gpu, monkeypatch):
    monkeypatch.setattr(config, "GPU", True)
    x, t = batch()
    net = two_layers()
    assert all(type(p) is gpu.ndarray for p in (*net.params, *net.grads))
    loss = net.forward(x, t)  # NumPy's arrays are moved
    assert type(net.predict(x)) is gpu.ndarray and type(fastnn.np.zeros(2)) is gpu.ndarray
    extended = MultiLayerNetExtend(6, [5], 3, use_batchnorm=True, use_dropout=True, weight_decay_lambda=0.1, rng=0)
    extended.forward(x, t)
    extended.backward()
    monkeypatch.setattr(config, "GPU", False)
    assert_allclose(float(loss), two_layers().forward(x, t), rtol=1e-5)


def test_numerical_gradient(gpu):
    x = gpu.asarray(np.array([3.0, 4.0]))
    assert_allclose(to_cpu(numerical_gradient(lambda x: (x**2).sum(), x)), [6.0, 8.0], rtol=1e-8)


# ---- nothing waits --------------------------------------------------------------------------------------------------


def test_a_step_copies_nothing_and_waits_for_nothing(counts, gpu):
    net, rule, (x, t) = two_layers().to("cuda"), Adam(), batch()
    x, t = gpu.asarray(x), gpu.asarray(t)

    def step():
        net.forward(x, t)
        net.backward()
        rule.update(net.params, net.grads, 1.0)

    step()  # the first prepares
    counts.clear()
    for _ in range(3):
        step()
    assert (counts["to_host"], counts["to_device"]) == (0, 0) and counts["launches"] > 0


def test_a_compiled_step_copies_nothing_and_waits_for_nothing(counts, gpu):
    x, t = (gpu.asarray(a) for a in batch())
    step = fastnn.compile(two_layers().to("cuda"), SGD(lr=0.1))
    losses = [step(x, t)]
    counts.clear()
    losses += [step(x, t) for _ in range(3)]
    assert (counts["to_host"], counts["to_device"]) == (0, 0) and counts["launches"] > 0
    losses = [float(loss) for loss in losses]
    assert losses == sorted(losses, reverse=True) and len(set(losses)) == 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])  # of the data: the network's, and another
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("options", [{}, {"use_batchnorm": True}], ids=["one launch", "graphs"])
def test_training_waits_for_reports_only(counts, gpu, options, compiled, dtype):
    x, t = (gpu.asarray(a) for a in batch(n=40))

    def reports_and_waits(max_epoch, eval_interval):
        trainer = Trainer(MultiLayerNetExtend(6, [5], 3, rng=0, **options).to("cuda"), Adam(), compiled)
        counts.clear()
        trainer.fit(x.astype(dtype), t, max_epoch, batch_size=8, eval_interval=eval_interval, verbose=False, rng=0)
        return len(trainer.loss_list), counts["to_host"]

    reports, before_training = reports_and_waits(1, None)
    assert reports == 0 and 1 <= before_training <= 2  # labels are checked; those of the first sample twice
    assert reports_and_waits(4, None) == (0, before_training)
    assert reports_and_waits(4, 5) == (4, before_training + 4)
    assert reports_and_waits(2, 2) == (6, before_training + 6)


def test_an_epoch_is_few_launches(counts, gpu):
    x, t = (gpu.asarray(a) for a in batch(n=60))
    step = fastnn.compile(two_layers().to("cuda"), SGD(lr=0.1))
    step.epoch(x, t, batch_size=5, rng=0)
    counts.clear()
    losses = step.epoch(x, t, batch_size=5, rng=0)
    assert losses.shape == (12,) and counts["launches"] < 12
    assert counts["to_device"] <= 2  # the order of the samples, and the optimizer's numbers


def test_compiled_is_that_of_the_cpu(gpu):
    x, t = batch()
    results = []
    for place in (np, gpu):
        net = two_layers("float64")
        if place is gpu:
            net.to("cuda")
        step, predict = fastnn.compile(net, Adam(lr=0.1), max_grad=0.5), fastnn.compile(net)
        losses = [float(step(place.asarray(x), place.asarray(t))) for _ in range(3)]
        losses += to_cpu(step.epoch(place.asarray(x), place.asarray(t), batch_size=4, rng=0)).tolist()
        out = place.empty((12, 3), "float64")
        assert predict(place.asarray(x), out=out, probabilities=True) is out
        results.append([np.array(losses), to_cpu(out), *map(to_cpu, net.params)])
    for mine, reference in zip(*reversed(results), strict=True):
        assert_allclose(mine, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("activation", "loss_layer"), [(Tanh, SoftmaxWithLoss), (Relu, MeanSquaredError)], ids=["tanh", "squares"]
)
def test_a_step_of_the_cpu_that_the_gpu_cannot_follow(gpu, activation, loss_layer):
    layers = {"a": Affine(np.ones((6, 3)), np.zeros(3)), "b": activation()}
    model = Network(layers, loss_layer())
    x = batch()[0]
    t = np.eye(3)[batch()[1]]
    step = fastnn.compile(model, Momentum(lr=0.1))
    first = step(x, t)
    model.to("cuda")
    for _ in range(2):
        with pytest.raises(TypeError, match=r"^fastnn.compile: was compiled for the CPU, but .* compile it again$"):
            step(gpu.asarray(x), gpu.asarray(t))
    fastnn.compile(model, Momentum(lr=0.1))(gpu.asarray(x), gpu.asarray(t))
    model.to("cpu")
    assert step(x, t) < first


# ---- how fast it is -------------------------------------------------------------------------------------------------


@pytest.fixture
def limits(monkeypatch):
    """Of the GPU; to measure those of a simulated one takes long."""
    of_gpu = fastnn.Roofline(4, {"float32": 1e12, "float64": 1e12}, 1e11, 1e11)
    monkeypatch.setattr(profiling, "roofline", {"cuda": of_gpu}.__getitem__)
    return of_gpu


def test_profile(gpu, limits):
    x, t = (gpu.asarray(a) for a in batch())
    model = two_layers().to("cuda")
    step = fastnn.compile(model, SGD())
    for mode, of in (
        ("train", fastnn.profile(step, x, t, batch_sizes=[4], rounds=2)),
        ("predict", fastnn.profile(model, batch_sizes=[4], rounds=2)),
    ):
        assert (of.device, of.mode, of.dtype, of.roofline) == ("cuda", mode, "float32", limits)
        (point,) = of.points
        assert point.batch == 4 and point.seconds > 0 and point.memory is None


def test_profile_command(gpu, limits, capsys, tmp_path):
    options = "--device cuda --model 6-5-3 --batch-sizes 4 --rounds 1 --dtype float32 --mode predict,train --no-plot"
    assert cli.main(["profile", *options.split(), "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "fastnn float32 predict, cuda" in out and "fastnn float32 train, cuda" in out


def test_nothing_of_a_gpu_is_imported_with_fastnn():
    code = "import sys, fastnn, fastnn.models, fastnn.trainer; print({'cupy', 'numba.cuda'} & {*sys.modules})"
    root = Path(__file__).resolve().parent.parent
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout == "set()\n"
