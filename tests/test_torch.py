"""from_torch and to_torch: the same predictions, and the same training, on both sides."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn import layers, models
from fastnn.layers import Affine, BatchNormalization, Convolution, Dropout, MeanSquaredError
from fastnn.models import Network
from fastnn.optimizer import SGD

torch = pytest.importorskip("torch")
nn = torch.nn

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
IMAGES = (5, 4, 12, 11)
ROWS = (7, 6)


def normalised(m):
    """With running statistics, and parameters, other than the first."""
    with torch.no_grad():
        for a in (m.weight, m.bias, m.running_mean, m.running_var):
            a.uniform_(0.5, 2)
    return m


MODULES = {
    "linear": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3, bias=False)), ROWS),
    "activations": (
        lambda: nn.Sequential(
            nn.Linear(6, 9), nn.LeakyReLU(0.2), nn.Linear(9, 9), nn.Sigmoid(), nn.Linear(9, 9), nn.Tanh(),
            nn.Linear(9, 9), nn.Softplus(), nn.Linear(9, 9), nn.GELU(), nn.Linear(9, 9), nn.GELU("tanh"),
            nn.Linear(9, 9), nn.SiLU(), nn.Identity(), nn.Linear(9, 4), nn.Softmax(dim=1),
        ),
        ROWS,
    ),
    "log_softmax": (lambda: nn.Sequential(nn.Linear(6, 4), nn.LogSoftmax(dim=-1)), ROWS),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), groups=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(6, 3, 3, padding="same", dilation=2, bias=False), nn.AvgPool2d((2, 1), 1), nn.Flatten(),
            nn.Linear(3 * 6 * 3, 4),
        ),
        IMAGES,
    ),
    "normalisation": (
        lambda: nn.Sequential(
            normalised(nn.BatchNorm2d(4)), nn.Conv2d(4, 2, 3), normalised(nn.BatchNorm2d(2, eps=0.1, momentum=0.3)),
            nn.Flatten(), nn.Linear(180, 5), normalised(nn.BatchNorm1d(5, momentum=0)),
        ),
        IMAGES,
    ),
    "normalised images": (
        lambda: nn.Sequential(normalised(nn.BatchNorm2d(4)), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12 * 11, 3)),
        IMAGES,
    ),
    "nested": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.3)), nn.Sequential(nn.ReLU()), nn.Dropout()),
        ROWS,
    ),
}  # fmt: skip


def inputs(shape, dtype=torch.float32):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def predicted(module, x):
    with torch.no_grad():
        return module.eval()(x).numpy()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_there_and_back(name, dtype):
    make, shape = MODULES[name]
    module, x = make().to(dtype), inputs(shape, dtype)
    want = predicted(module, x)
    net = fastnn.from_torch(module)
    assert {p.dtype for p in net.params} == {want.dtype}
    assert_allclose(net.predict(x), want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    state = torch.random.get_rng_state()
    back = fastnn.to_torch(net)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_allclose(predicted(back, x), want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    if name == "linear":
        assert_array_equal(predicted(back, x), want)


def test_weights_are_copies():
    module = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
    net = fastnn.from_torch(module)
    back = fastnn.to_torch(net)
    assert back.training and [type(p) for p in back.parameters()] == [nn.Parameter] * 4
    want = predicted(module, inputs(ROWS))
    for p in (*net.params, net.layers["1"].running_mean):
        p += 1
    for m in (module, back):
        assert_allclose(predicted(m, inputs(ROWS)), want, atol=1e-6)


def test_trains_the_same():
    """Ten steps of SGD, batch normalisation and all, on both sides."""
    module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, eps=1e-3), nn.Tanh(), nn.Linear(8, 2)).double()
    net = fastnn.from_torch(module, MeanSquaredError())
    x, t = inputs((10, 6), torch.float64), inputs((10, 2), torch.float64)
    theirs, ours, loss = torch.optim.SGD(module.parameters(), lr=0.1), SGD(lr=0.1), nn.MSELoss()
    for _ in range(10):
        theirs.zero_grad()
        loss(module(x), t).backward()
        theirs.step()
        net.gradient(x, t)
        ours.update(net.params, net.grads)
    for p, q in zip(fastnn.to_torch(net).parameters(), module.parameters(), strict=True):
        assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-10, atol=1e-12)
    mean = module[1].running_mean.numpy()
    assert_allclose(net.layers["1"].running_mean, mean, rtol=1e-10)


@pytest.mark.parametrize(
    "net, shape",
    [
        (models.MultiLayerNetExtend(6, [5, 4], 3, "sigmoid", use_dropout=True, use_batchnorm=True, rng=0), ROWS),
        (models.SimpleConvNet((1, 12, 12), rng=0), (2, 1, 12, 12)),
        (models.DeepConvNet(rng=0), (2, 1, 28, 28)),
        (Network({"n": BatchNormalization(*np.ones((2, 6), "f4")), "d": Dropout(inverted=True)}, None), ROWS),
    ],
    ids=lambda net: type(net).__name__,
)
def test_the_book_s_models(net, shape):
    x = inputs(shape)
    for _ in range(2):
        net.predict(x, train_flg=True)  # running averages
    module = fastnn.to_torch(net)
    assert_allclose(predicted(module, x), net.predict(x), rtol=1e-4, atol=1e-5)
    assert_allclose(fastnn.from_torch(module).predict(x), net.predict(x), rtol=1e-4, atol=1e-5)


def test_dropout_trains_the_same_on_both_sides():
    """What is kept of a row of ones comes out alike, whichever way dropout is scaled."""
    W = np.eye(3) * 2.0
    for plain in (
        {"d": Dropout(0.75, rng=0), "a": Affine(W, np.zeros(3))},
        {"a": Affine(W, np.zeros(3)), "d": Dropout(0.75, rng=0)},
    ):
        net, x = Network(plain, None), np.ones((50, 3))
        ours, theirs = net.predict(x, train_flg=True), fastnn.to_torch(net)(torch.from_numpy(x)).detach().numpy()
        back = fastnn.from_torch(fastnn.to_torch(net)).predict(x, train_flg=True)
        for out in (ours, theirs, back):
            assert_array_equal(np.unique(out), [0.0, 2.0])


def named(module):
    return nn.Sequential(nn.Flatten(), module)


WITHOUT = [
    (nn.Linear(2, 2), "module must be a torch.nn.Sequential, got Linear"),
    (named(nn.LSTM(2, 2)), r"1 \(LSTM\) has no counterpart among the layers of fastnn"),
    (named(nn.Sequential(nn.ELU())), r"1_0 \(ELU\) has no counterpart among the layers of fastnn"),
    (named(type("Linear", (nn.Linear,), {})(2, 2)), r"1 \(Linear\) has no counterpart among the layers of fastnn"),
    (named(nn.Flatten(0)), r"1 \(Flatten\): start_dim must be 1, got 0"),
    (named(nn.Softmax(dim=0)), r"1 \(Softmax\): dim must be -1, or 1 of rows, got 0"),
    (named(nn.Softplus(beta=2)), r"1 \(Softplus\): beta must be 1, got 2.*"),
    (named(nn.Softplus(threshold=5)), r"1 \(Softplus\): threshold must be at least 20, got 5.*"),
    (named(nn.LeakyReLU(-1.0)), r"1 \(LeakyReLU\): LeakyRelu: alpha must be a finite number of at least 0, got -1.0"),
    (named(nn.Dropout(1.0)), r"1 \(Dropout\): Dropout: dropout_ratio must be in \[0, 1\), got 1.0"),
    (named(nn.BatchNorm1d(3, affine=False)), r"1 \(BatchNorm1d\): affine must be True, got False"),
    (named(nn.BatchNorm1d(3, track_running_stats=False)), r"1 \(.*\): track_running_stats must be True, got False"),
    (named(nn.BatchNorm2d(3, momentum=None)), r"1 \(BatchNorm2d\): momentum must be a number, got None"),
    (named(nn.Conv2d(1, 1, 3, padding_mode="reflect", padding=1)), r"1 \(.*\): padding_mode must be 'zeros', got .*"),
    (named(nn.Conv2d(1, 1, 2, padding="same")), r"1 \(Conv2d\): padding must be as much on both sides, got 'same' .*"),
    (named(nn.MaxPool2d(2, (1, 2))), r"1 \(MaxPool2d\): stride must be the same along both axes, got \(1, 2\)"),
    (named(nn.MaxPool2d(2, dilation=2)), r"1 \(MaxPool2d\): dilation must be 1, got 2"),
    (named(nn.MaxPool2d(2, return_indices=True)), r"1 \(MaxPool2d\): return_indices must be False, got True"),
    (named(nn.AvgPool2d(2, ceil_mode=True)), r"1 \(AvgPool2d\): ceil_mode must be False, got True"),
    (named(nn.AvgPool2d(3, padding=1, count_include_pad=False)), r"1 \(.*\): count_include_pad must be True, got .*"),
    (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Linear(9, 2)), r"1 \(Linear\) must come after a Flatten, where images .*"),
    (nn.Sequential(nn.Softmax(dim=1), nn.AvgPool2d(2)), r"0 \(Softmax\) must come after a Flatten, where images .*"),
    (nn.Sequential(*[nn.Linear(2, 2)] * 2), r"1 \(Linear\) shares its weights with another module; .*"),
]  # fmt: skip


@pytest.mark.parametrize("module, words", WITHOUT, ids=[words[:40] for _, words in WITHOUT])
def test_what_has_no_layer_is_named(module, words):
    with pytest.raises((TypeError, ValueError), match=f"^from_torch: {words}$"):
        fastnn.from_torch(module)


def test_what_has_no_module_is_named():
    with pytest.raises(TypeError, match=r"^to_torch: r \(Repeat\) has no counterpart among the modules of PyTorch$"):
        fastnn.to_torch(Network({"r": layers.Repeat(3)}, None))
    with pytest.raises(
        ValueError, match=r"^to_torch: s \(Sigmoid\) comes after a Dropout whose scaling no weights .*$"
    ):
        fastnn.to_torch(Network({"d": Dropout(), "s": layers.Sigmoid()}, None))


def test_a_list_of_layers_will_do():
    class Book:
        layers = [Convolution(np.ones((2, 1, 3, 3)), np.ones(2)), Affine(np.ones((2, 3)), np.ones(3))]  # noqa: RUF012

    assert [type(m).__name__ for m in fastnn.to_torch(Book)] == ["Conv2d", "Flatten", "Linear"]
