"""The scikit-learn estimators: scikit-learn's own conformance suite, and its MLPs as reference."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

sklearn = pytest.importorskip("sklearn")

from sklearn.datasets import load_diabetes, load_iris  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.neural_network import MLPClassifier as TheirClassifier  # noqa: E402
from sklearn.neural_network import MLPRegressor as TheirRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from fastnn import MLPClassifier, MLPRegressor  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([MLPClassifier(max_iter=60), MLPRegressor(max_iter=60)])
@pytest.mark.filterwarnings("ignore")
def test_conformance(estimator, check):
    check(estimator)


def iris():
    x, t = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(x), np.array(["setosa", "versicolor", "virginica"])[t]


def diabetes():
    x, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(x), (y - y.mean()) / y.std()


BOTH = [(MLPClassifier, TheirClassifier, iris), (MLPRegressor, TheirRegressor, diabetes)]
SETTINGS = [
    {"solver": "adam", "learning_rate_init": 0.01},
    {"solver": "sgd", "learning_rate_init": 0.1},
    {"solver": "sgd", "learning_rate_init": 0.1, "nesterovs_momentum": False, "alpha": 0.002},
    {"solver": "sgd", "learning_rate_init": 0.1, "learning_rate": "invscaling"},
    {"solver": "adam", "learning_rate_init": 0.01, "activation": "logistic", "hidden_layer_sizes": (9, 7)},
    {"solver": "adam", "learning_rate_init": 0.01, "activation": "tanh", "hidden_layer_sizes": 6},
    {"solver": "adam", "learning_rate_init": 0.01, "activation": "identity"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(
    "ours, theirs, data", [(MLPClassifier, TheirClassifier, iris), (MLPRegressor, TheirRegressor, diabetes)]
)
def test_learns_what_scikit_learn_does(ours, theirs, data, settings):
    """From the same weights, without shuffling: the loss curves agree, but for the decay of intercepts."""
    x, y = data()
    settings = {
        "alpha": 0.0,
        "hidden_layer_sizes": 8,
        "max_iter": 12,
        "shuffle": False,
        "batch_size": 32,
        "random_state": 0,
    } | settings
    a, b = ours(**settings).fit(x, y), theirs(**settings).fit(x, y)
    assert_allclose(a.loss_curve_, b.loss_curve_, rtol=1e-2 if settings["alpha"] else 1e-8)
    assert (a.n_iter_, a.t_, a.n_layers_) == (b.n_iter_, b.t_, b.n_layers_)
    if not settings["alpha"]:
        for p, q in zip(a.coefs_, b.coefs_, strict=True):
            assert_allclose(p, q, rtol=1e-6, atol=1e-7)
        assert_allclose(a.score(x, y), b.score(x, y))
        assert_array_equal(a.predict(x), b.predict(x)) if ours is MLPClassifier else assert_allclose(
            a.predict(x), b.predict(x)
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_computes_in_the_dtype_of_x(dtype):
    x, t = iris()
    clf = MLPClassifier(8, max_iter=100, learning_rate_init=0.01, random_state=0).fit(x.astype(dtype), t)
    assert clf.coefs_[0].dtype == dtype and clf.predict_proba(x.astype(dtype)).dtype == dtype
    assert clf.score(x, t) > 0.95
    assert_allclose(np.exp(clf.predict_log_proba(x)), clf.predict_proba(x), rtol=1e-5)
    assert_allclose(clf.predict_proba(x).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("estimator, data", [(MLPClassifier, iris), (MLPRegressor, diabetes)])
def test_early_stopping_keeps_the_best(estimator, data):
    x, y = data()
    model = estimator(
        20, early_stopping=True, validation_fraction=0.3, max_iter=200, learning_rate_init=0.02, random_state=1
    )
    model.fit(x, y)
    assert model.n_iter_ < 200 and len(model.validation_scores_) == model.n_iter_ == len(model.loss_curve_)
    assert model.best_validation_score_ == max(model.validation_scores_) and model.best_loss_ is None


def test_partial_fit_goes_on_after_pickling():
    x, t = iris()
    whole, parts = MLPClassifier(8, random_state=0, batch_size=50), MLPClassifier(8, random_state=0, batch_size=50)
    for _ in range(4):
        whole.partial_fit(x, t, classes=np.unique(t))
        parts = pickle.loads(pickle.dumps(parts)).partial_fit(x, t, classes=np.unique(t))
    assert_array_equal(whole.coefs_[0], parts.coefs_[0])
    assert whole.loss_curve_ == parts.loss_curve_ and whole.n_iter_ == 4


def test_warm_start_goes_on():
    x, y = diabetes()
    once = MLPRegressor(5, max_iter=6, random_state=0, shuffle=False).fit(x, y)
    twice = MLPRegressor(5, max_iter=3, random_state=0, shuffle=False, warm_start=True).fit(x, y).fit(x, y)
    assert once.loss_curve_ == twice.loss_curve_
    with pytest.raises(
        ValueError, match="X and y must be float64 with 1 outputs as in the first fit, got float64 with 2"
    ):
        twice.fit(x, np.stack([y, y], axis=1))
    twice = MLPRegressor(5, max_iter=3, random_state=0, warm_start=True).fit(x, np.stack([y, y], axis=1))
    with pytest.raises(ValueError, match="X and y must be float64 with 2 outputs"):
        twice.fit(x, y)
    assert twice.predict(x).shape == (len(x), 2)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes must be \[5\] as in the first fit, got \(5, 4\)"):
        twice.set_params(hidden_layer_sizes=(5, 4)).fit(x, np.stack([y, y], axis=1))


def test_warm_start_takes_changed_settings():
    x, y = diabetes()
    model = MLPRegressor(5, max_iter=1, random_state=0, shuffle=False, warm_start=True).fit(x, y)
    before = model.coefs_[0].copy()
    model.set_params(learning_rate_init=1e-300).fit(x, y)
    assert_array_equal(model.coefs_[0], before)
    outputs = model.predict(x)
    model.set_params(activation="identity").fit(x, y)
    assert not np.allclose(model.predict(x), outputs)
    assert_allclose(
        model.predict(x), (x @ model.coefs_[0] + model.intercepts_[0]) @ model.coefs_[1][:, 0] + model.intercepts_[1]
    )


def test_exchanged_weights_are_noticed():
    x, y = diabetes()
    model = MLPRegressor((), max_iter=1, random_state=0).fit(x, y)
    model.predict(x)
    model.coefs_, model.intercepts_ = [np.ones((x.shape[1], 1))], [np.zeros(1)]
    assert_allclose(model.predict(x), x.sum(axis=1))
    model.partial_fit(x, y)
    assert_allclose(model.predict(x), x @ model.coefs_[0][:, 0] + model.intercepts_[0])
    assert (model.coefs_[0] != 1).all()


def test_several_outputs():
    x, y = diabetes()
    both = np.stack([y, -y], axis=1)
    model = MLPRegressor(10, max_iter=200, learning_rate_init=0.01, random_state=0).fit(x, both)
    theirs = TheirRegressor(hidden_layer_sizes=10, max_iter=200, learning_rate_init=0.01, random_state=0).fit(x, both)
    assert model.predict(x).shape == both.shape and model.score(x, both) > theirs.score(x, both) - 0.05


def test_in_pipelines_and_searches():
    x, t = iris()
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(8, max_iter=80, learning_rate_init=0.02, random_state=0))
    assert cross_val_score(pipeline, x, t, cv=3).mean() > 0.9
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1.0]}, cv=3, n_jobs=2).fit(x, t)
    assert set(search.best_params_) == {"mlpclassifier__alpha"}


def test_learning_ends_or_says_that_it_did_not():
    x, t = iris()
    done = MLPClassifier(8, learning_rate_init=0.1, tol=0.1, random_state=0).fit(x, t)
    assert done.n_iter_ < 200
    with pytest.warns(ConvergenceWarning, match="max_iter=2 epochs did not suffice"), warnings.catch_warnings():
        warnings.simplefilter("always")
        MLPClassifier(8, max_iter=2).fit(x, t)


def test_adaptive_rate_falls(capsys):
    x, t = iris()
    model = MLPClassifier(
        8,
        solver="sgd",
        learning_rate="adaptive",
        learning_rate_init=0.3,
        tol=0.01,
        max_iter=400,
        random_state=0,
        verbose=True,
    ).fit(x, t)
    assert model._optimizer.lr <= 1e-6 and model.n_iter_ < 400
    assert capsys.readouterr().out.startswith("Iteration 1, loss = ")


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"activation": "softmax"}, "activation must be one of relu, logistic, tanh, identity, got 'softmax'"),
        ({"solver": "lbfgs"}, "solver must be one of adam, sgd, got 'lbfgs'"),
        ({"hidden_layer_sizes": (3, 0)}, r"hidden_layer_sizes must be positive integers, got \(3, 0\)"),
        ({"hidden_layer_sizes": 2.5}, "hidden_layer_sizes must be positive integers, got 2.5"),
        ({"batch_size": 0}, "batch_size must be 'auto' or a positive integer, got 0"),
        ({"max_iter": 0}, "max_iter must be a positive integer, got 0"),
        ({"max_iter": 2.5}, "max_iter must be a positive integer, got 2.5"),
        ({"learning_rate_init": "0.1"}, "learning_rate_init must be a positive number, got '0.1'"),
        ({"alpha": -1.0}, "alpha must be a number of at least 0, got -1.0"),
        ({"momentum": 2}, "momentum must be a number between 0 and 1, got 2"),
    ],
)
def test_wrong_parameters_are_named(settings, words):
    with pytest.raises(ValueError, match=f"^MLPClassifier: {words}$"):
        MLPClassifier(**settings).fit(*iris())


def test_wrong_calls_are_named():
    x, t = iris()
    with pytest.raises(ValueError, match="the first call of partial_fit needs classes"):
        MLPClassifier().partial_fit(x, t)
    clf = MLPClassifier().partial_fit(x, t, classes=np.unique(t))
    with pytest.raises(ValueError, match=r"y must hold the classes \['setosa', .*\], got others"):
        clf.partial_fit(x, np.full(len(t), "tulip"))
    with pytest.raises(ValueError, match=r"classes must be .* as at first, got"):
        clf.partial_fit(x, t, classes=["rose"])
    with pytest.raises(ValueError, match="partial_fit does not go with early_stopping"):
        MLPClassifier(early_stopping=True).partial_fit(x, t, classes=np.unique(t))
    with pytest.raises(ValueError, match="weights became infinite"), np.errstate(all="ignore"):
        MLPRegressor(solver="sgd", learning_rate_init=1e10, max_iter=30).fit(*diabetes())


@pytest.mark.parametrize("value, words", [(np.nan, "NaN"), (-np.inf, "infinity")])
@pytest.mark.parametrize("row", [0, 75, -1])
def test_every_thread_finds_what_is_not_finite(monkeypatch, row, value, words):
    monkeypatch.setattr("fastnn.estimators._THREADS_FROM", 0)
    x, t = iris()
    clf = MLPClassifier(max_iter=1).fit(x, t)
    x[row, 1] = value
    with pytest.raises(ValueError, match=f"Input X contains {words}"):
        clf.fit(x, t)
    with pytest.raises(ValueError, match=f"Input X contains {words}"):
        clf.predict(x)
    assert np.isfinite(clf.coefs_[0]).all()


def test_without_scikit_learn_fastnn_works_and_says_what_it_needs():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import fastnn\n"
        "try: fastnn.MLPClassifier\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "fastnn.estimators needs scikit-learn: pip install 'fastnn-kernels[sklearn]'\n"
