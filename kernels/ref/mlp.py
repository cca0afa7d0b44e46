"""A whole multi-layer perceptron in one call, in NumPy. Sibling: kernels/cpu/mlp.py.

A stage is y = act(x · W + b), or without b, or act alone. A training step runs all stages, the loss (softmax with
cross-entropy, or the mean of squared errors), and all stages back; then one update of all parameters by the optimizer.
"""

from typing import Any, NamedTuple

import numpy as np

from .mean_squared_error import mean_squared_error
from .optimizer import optimizer_plan, optimizer_update
from .relu import relu_backward, relu_forward
from .sigmoid import sigmoid_backward, sigmoid_forward
from .softmax import softmax_forward
from .softmax_with_loss import softmax_with_loss
from .tanh import tanh_backward, tanh_forward

_FORWARD = {"relu": relu_forward, "sigmoid": sigmoid_forward, "tanh": tanh_forward}
_BACKWARD = {"relu": relu_backward, "sigmoid": sigmoid_backward, "tanh": tanh_backward}


class Plan(NamedTuple):
    stages: list[Any]  # (W, b, dW, db, activation) each
    optimizer: Any
    loss: str
    scale: float


def mlp_plan(stages, rule="sgd", states=None, loss="softmax_with_loss", scale=1.0):
    pairs = [pair for W, b, dW, db, _ in stages for pair in ((W, dW), (b, db)) if pair[0] is not None]
    params, grads = zip(*pairs, strict=True)
    return Plan(list(stages), optimizer_plan(rule, params, grads, states or [()] * len(params)), loss, scale)


def mlp_workspace(plan, batch_size, dtype):
    return None


def mlp_predict_workspace(plan, dtype, layers=()):
    return None


def _outputs(stages, x):
    """x and the output of every stage."""
    outputs = [x]
    for W, b, _, _, activation in stages:
        y = outputs[-1].copy()
        if W is not None:
            y = y @ W if b is None else y @ W + b
        if activation:
            _FORWARD[activation](y.copy(), y)
        outputs.append(y)
    return outputs


def mlp_train(plan, workspace, x, t, t_rows, order, batch_size, numbers, max_norm, losses):
    stages = plan.stages
    classes = next(W for W, *_ in reversed(stages) if W is not None).shape[1]
    labels = t if t.size else t_rows
    for batch in range(len(losses)):
        rows = order[batch * batch_size : (batch + 1) * batch_size] if order.size else slice(None)
        outputs = _outputs(stages, x[rows])
        g = np.empty_like(outputs[-1])
        if plan.loss == "mean_squared_error":
            losses[batch] = plan.scale * mean_squared_error(outputs[-1], t_rows[rows], g)
        elif np.all((t[rows] >= 0) & (t[rows] < classes)) if t.size else np.isfinite(t_rows[rows]).all():
            losses[batch] = plan.scale * softmax_with_loss(outputs[-1], labels[rows], None, 0.0, None, g)
        else:
            return batch
        g *= plan.scale
        for i in reversed(range(len(stages))):
            W, b, dW, db, activation = stages[i]
            if activation:
                _BACKWARD[activation](g.copy(), outputs[i + 1], g)
            if W is not None:
                np.matmul(outputs[i].T, g, out=dW)
                if b is not None:
                    np.sum(g, axis=0, out=db)
                g = g @ W.T
        if len(numbers):
            optimizer_update(plan.optimizer, numbers[min(batch, len(numbers) - 1)], max_norm)
    return len(losses)


def mlp_predict(plan, workspace, x, probabilities, out):
    scores = _outputs(plan.stages, x)[-1]
    if probabilities:
        softmax_forward(scores, out)
    else:
        out[...] = scores
