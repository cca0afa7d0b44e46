"""The book's way in plain NumPy, as a reader writes it: a class a layer, a new array for every result.

Deep Learning from Scratch 2, chapter 1: the layers, the network, SGD and the training loop; book 1, chapter 7: images.
"""

import numpy as np

from fastnn.util import col2im, im2col


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


class Convolution:
    """By im2col: a matrix product."""

    def __init__(self, W, b, stride, pad):
        self.params = [W, b]
        self.grads = [np.zeros_like(W), np.zeros_like(b)]
        self.stride, self.pad = stride, pad

    def forward(self, x):
        W, b = self.params
        FN, _, FH, FW = W.shape
        N, _, H, width = x.shape
        out_h = (H + 2 * self.pad - FH) // self.stride + 1
        out_w = (width + 2 * self.pad - FW) // self.stride + 1
        self.x, self.col = x, im2col(x, FH, FW, self.stride, self.pad)
        out = np.dot(self.col, W.reshape(FN, -1).T) + b
        return out.reshape(N, out_h, out_w, -1).transpose(0, 3, 1, 2)

    def backward(self, dout):
        W, _ = self.params
        FN, _, FH, FW = W.shape
        dout = dout.transpose(0, 2, 3, 1).reshape(-1, FN)
        self.grads[1][...] = np.sum(dout, axis=0)
        self.grads[0][...] = np.dot(self.col.T, dout).transpose(1, 0).reshape(W.shape)
        return col2im(np.dot(dout, W.reshape(FN, -1)), self.x.shape, FH, FW, self.stride, self.pad)


class Pooling:
    """The maximum of windows."""

    params, grads = (), ()

    def __init__(self, pool_h, pool_w, stride):
        self.pool_h, self.pool_w, self.stride = pool_h, pool_w, stride

    def forward(self, x):
        N, C, H, W = x.shape
        out_h, out_w = (H - self.pool_h) // self.stride + 1, (W - self.pool_w) // self.stride + 1
        col = im2col(x, self.pool_h, self.pool_w, self.stride, 0).reshape(-1, self.pool_h * self.pool_w)
        self.x, self.arg_max = x, np.argmax(col, axis=1)
        return np.max(col, axis=1).reshape(N, out_h, out_w, C).transpose(0, 3, 1, 2)

    def backward(self, dout):
        dout = dout.transpose(0, 2, 3, 1)
        pool_size = self.pool_h * self.pool_w
        dmax = np.zeros((dout.size, pool_size), dout.dtype)
        dmax[np.arange(self.arg_max.size), self.arg_max.flatten()] = dout.flatten()
        dmax = dmax.reshape((*dout.shape, pool_size))
        dcol = dmax.reshape(dmax.shape[0] * dmax.shape[1] * dmax.shape[2], -1)
        return col2im(dcol, self.x.shape, self.pool_h, self.pool_w, self.stride, 0)


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


class ImageNet:
    """Layers in order, softmax with cross-entropy, and a step of SGD; images are flattened before the first Affine."""

    def __init__(self, layers, lr):
        self.layers, self.loss_layer, self.optimizer = layers, SoftmaxWithLoss(), SGD(lr)
        self.params = [p for layer in layers for p in layer.params]
        self.grads = [g for layer in layers for g in layer.grads]

    def step(self, x, t):
        shape = x.shape
        for layer in self.layers:
            if isinstance(layer, Affine) and x.ndim == 4:
                shape, x = x.shape, x.reshape(len(x), -1)
            x = layer.forward(x)
        loss, dout = self.loss_layer.forward(x, t), self.loss_layer.backward()
        for layer in reversed(self.layers):
            if not isinstance(layer, Affine | Relu) and dout.ndim == 2:
                dout = dout.reshape(shape)
            dout = layer.backward(dout)
        self.optimizer.update(self.params, self.grads)
        return loss


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
