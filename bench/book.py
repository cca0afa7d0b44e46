"""The book's way in plain NumPy, as a reader writes it: a class a layer, a new array for every result.

Deep Learning from Scratch 2, chapter 1: the layers, the network, SGD and the training loop.
"""

import numpy as np


class Affine:
    """x·W + b."""

    def __init__(self, W, b):
        self.params = [W, b]
        self.grads = [np.zeros_like(W), np.zeros_like(b)]
        self.x = None

    def forward(self, x):
        self.x = x
        W, b = self.params
        return np.dot(x, W) + b

    def backward(self, dout):
        W, _ = self.params
        self.grads[0][...] = np.dot(self.x.T, dout)
        self.grads[1][...] = np.sum(dout, axis=0)
        return np.dot(dout, W.T)


class Sigmoid:
    """1 / (1 + exp(-x))."""

    params, grads = (), ()

    def forward(self, x):
        self.out = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout):
        return dout * (1.0 - self.out) * self.out


class Relu:
    """max(x, 0)."""

    params, grads = (), ()

    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        return dout


def softmax(x):
    """Probabilities of rows of scores."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class SoftmaxWithLoss:
    """Mean cross-entropy against class indices."""

    def forward(self, x, t):
        self.y, self.t = softmax(x), t.argmax(axis=1) if t.ndim == 2 else t
        return -np.sum(np.log(self.y[np.arange(len(x)), self.t] + 1e-7)) / len(x)

    def backward(self, dout=1):
        dx = self.y.copy()
        dx[np.arange(len(dx)), self.t] -= 1
        dx *= dout
        return dx / len(dx)


class Net:
    """Affine layers with an activation between them.

    Parameters
    ----------
    params : list of (W, b)
        Used as they are.
    activation : {"relu", "sigmoid"}
    """

    def __init__(self, params, activation):
        self.layers = []
        for W, b in params:
            self.layers += [Affine(W, b), Relu() if activation == "relu" else Sigmoid()]
        self.layers.pop()
        self.loss_layer = SoftmaxWithLoss()
        self.params = [p for layer in self.layers for p in layer.params]
        self.grads = [g for layer in self.layers for g in layer.grads]

    def predict(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def forward(self, x, t):
        return self.loss_layer.forward(self.predict(x), t)

    def backward(self, dout=1):
        dout = self.loss_layer.backward(dout)
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return dout


class SGD:
    """param -= lr · grad."""

    def __init__(self, lr):
        self.lr = lr

    def update(self, params, grads):
        for param, grad in zip(params, grads, strict=True):
            param -= self.lr * grad


def fit(model, optimizer, x, t, max_epoch, batch_size, eval_interval=10):
    """The loop of the book's train_custom_loop.py, without its printing; returns the mean losses."""
    data_size = len(x)
    max_iters = data_size // batch_size
    total_loss, loss_count, losses = 0, 0, []
    for _ in range(max_epoch):
        idx = np.random.permutation(data_size)
        x, t = x[idx], t[idx]
        for iters in range(max_iters):
            batch_x = x[iters * batch_size : (iters + 1) * batch_size]
            batch_t = t[iters * batch_size : (iters + 1) * batch_size]
            loss = model.forward(batch_x, batch_t)
            model.backward()
            optimizer.update(model.params, model.grads)
            total_loss += loss
            loss_count += 1
            if (iters + 1) % eval_interval == 0:
                losses.append(total_loss / loss_count)
                total_loss, loss_count = 0, 0
    return losses
