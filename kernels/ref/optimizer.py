"""Optimizers: one step of many parameters, in NumPy. Sibling: kernels/cpu/optimizer.py.

The rules, and the order of their operations: Deep Learning from Scratch 1, section 6.1 and common/optimizer.py. Before
a rule is applied, gradients are scaled down, in place, to a joint norm of max_norm (book 2, section 6.1.4), and
    grad + decay · param      takes the place of the gradient (weight decay as an L2 penalty),
    keep · param              that of the parameter (decoupled: Loshchilov, Hutter, ICLR 2019).
CPUs compute slowly with subnormal numbers, below 1.2e-38 in float32, which gradients that vanish, or all but, would
leave for good. So 0 stands for squares of gradients and decay · param where those would be subnormal, and for states
that decay (v, h, m) up to 1024 times that: no parameter but the tiniest moves otherwise than by the book's rules.
numbers: decay, keep, and those of the rule. Arrays of one shape each, any number of axes.
"""

from typing import Any, NamedTuple

import numpy as np


def _flush(state):
    state[np.abs(state) < 1024 * np.finfo(state.dtype).tiny] = 0


def _at_least(limit, x):
    """x, or 0 where it is below the limit."""
    return np.where(np.abs(x) < limit, 0, x)


def _root(x):
    """x, or 0 where its square would be subnormal."""
    return _at_least(np.sqrt(np.finfo(x.dtype).tiny), x)


def sgd(param, grad, lr):
    param -= lr * grad


def momentum(param, grad, v, lr, momentum):
    v *= momentum
    v -= lr * grad
    _flush(v)
    param += v


def nesterov(param, grad, v, lr, momentum, momentum_squared, lr_of_grad):
    """Bengio, Boulanger-Lewandowski, Pascanu, ICASSP 2013, with the book's v; lr_of_grad = (1 + momentum) · lr."""
    v *= momentum
    v -= lr * grad
    _flush(v)
    param += momentum_squared * v
    param -= lr_of_grad * grad


def adagrad(param, grad, h, lr, epsilon):
    """Duchi, Hazan, Singer, JMLR 12 (2011)."""
    h += _root(grad) ** 2
    param -= lr * grad / (np.sqrt(h) + epsilon)


def rmsprop(param, grad, h, lr, decay_rate, new, epsilon):
    """Tieleman, Hinton, Coursera (2012); new = 1 - decay_rate."""
    h *= decay_rate
    h += new * _root(grad) * _root(grad)
    _flush(h)
    param -= lr * grad / (np.sqrt(h) + epsilon)


def adam(param, grad, m, v, lr, new_m, new_v, epsilon):
    """Kingma, Ba, ICLR 2015; lr = that of step t, with the correction of the bias; new = 1 - beta."""
    m += new_m * (grad - m)
    v += new_v * (_root(grad) ** 2 - v)
    _flush(m)
    _flush(v)
    param -= lr * m / (np.sqrt(v) + epsilon)


RULES = {f.__name__: f for f in (sgd, momentum, nesterov, adagrad, rmsprop, adam)}


class OptimizerPlan(NamedTuple):
    rule: Any
    params: list[np.ndarray]
    grads: list[np.ndarray]
    states: list[tuple[np.ndarray, ...]]


def optimizer_plan(rule, params, grads, states):
    return OptimizerPlan(RULES[rule], params, grads, states)


def optimizer_update(plan, numbers, max_norm):
    rate = 1.0
    if max_norm > 0:
        norm = np.sqrt(sum(np.sum(np.square(grad, dtype=np.float64)) for grad in plan.grads))
        rate = float(max_norm / (norm + 1e-6))
    decay, keep, *rest = numbers.tolist()
    for param, grad, state in zip(plan.params, plan.grads, plan.states, strict=True):
        if rate < 1:
            grad *= rate
        if decay != 0:
            grad = grad + decay * _at_least(np.finfo(param.dtype).tiny / abs(decay), param)
        if keep != 1:
            param *= keep
        plan.rule(param, grad, *state, *rest)
