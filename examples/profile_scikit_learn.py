"""Throughput of a foreign model, scikit-learn's MLPClassifier, beside a network of fastnn. Needs scikit-learn.

python examples/profile_scikit_learn.py [PICTURE.png]
"""

import sys

from sklearn.neural_network import MLPClassifier

import fastnn
from fastnn.dataset import digits
from fastnn.models import TwoLayerNet
from fastnn.optimizer import SGD
from fastnn.plot import new_axes, plot_throughput, save
from fastnn.trainer import Trainer

(x, t), (x_test, t_test) = digits.load_digits()
theirs = MLPClassifier((100,), max_iter=200, random_state=0, early_stopping=True).fit(x, t)
ours = TwoLayerNet(64, 100, 10, activation="relu", rng=0)
Trainer(ours, SGD(lr=0.5)).fit(x, t, max_epoch=50, batch_size=100, verbose=False, rng=0)

profiles = [fastnn.profile(theirs.predict_proba, x_test), fastnn.profile(fastnn.compile(ours), x_test)]
for p, accuracy in zip(profiles, [theirs.score(x_test, t_test), ours.accuracy(x_test, t_test)], strict=True):
    knee, quick = p.knee(), p.best(latency_ms=0.5)
    print(f"{p.backend}, accuracy {accuracy:.3f}: knee at batch {knee.batch}, {knee.throughput:,.0f} samples/s")
    print(
        f"  within 0.5 ms: batch {quick.batch}, {quick.throughput:,.0f} samples/s" if quick else "  none within 0.5 ms"
    )

if len(sys.argv) > 1:
    save(plot_throughput(profiles, new_axes(), title="64-100-10, handwritten digits"), sys.argv[1])
