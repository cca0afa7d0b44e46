"""A whole multi-layer perceptron in one call, in NumPy. Sibling: kernels/cpu/mlp.py.

A stage is y = act(x · W + b), or without b, or act alone. A training step runs all stages, softmax with cross-entropy,
and all stages back; then W <- W - lr · dW and b <- b - lr · db, the gradients scaled down before to a joint norm of
max_norm. A plan is the list of the stages itself, (W, b, dW, db, activation) each.
"""

import numpy as np

from .relu import relu_backward, relu_forward
from .sgd import sgd_update
from .sigmoid import sigmoid_backward, sigmoid_forward
from .softmax import softmax_forward
from .softmax_with_loss import softmax_with_loss

_FORWARD = {"relu": relu_forward, "sigmoid": sigmoid_forward}
_BACKWARD = {"relu": relu_backward, "sigmoid": sigmoid_backward}


def mlp_plan(stages):
    return list(stages)


def mlp_workspace(plan, batch_size, dtype):
    return None


def mlp_predict_workspace(plan, dtype):
    return None


def _outputs(plan, x):
    """x and the output of every stage."""
    outputs = [x]
    for W, b, _, _, activation in plan:
        y = outputs[-1].copy()
        if W is not None:
            y = y @ W if b is None else y @ W + b
        if activation:
            _FORWARD[activation](y.copy(), y)
        outputs.append(y)
    return outputs


def mlp_train(plan, workspace, x, t, t_rows, order, batch_size, lr, max_norm, losses):
    classes = next(W for W, *_ in reversed(plan) if W is not None).shape[1]
    labels = t if t.size else t_rows
    for batch in range(len(losses)):
        rows = order[batch * batch_size : (batch + 1) * batch_size] if order.size else slice(None)
        if not (np.all((t[rows] >= 0) & (t[rows] < classes)) if t.size else np.isfinite(t_rows[rows]).all()):
            return batch
        outputs = _outputs(plan, x[rows])
        g = np.empty_like(outputs[-1])
        losses[batch] = softmax_with_loss(outputs[-1], labels[rows], None, 0.0, None, g)
        for i in reversed(range(len(plan))):
            W, b, dW, db, activation = plan[i]
            if activation:
                _BACKWARD[activation](g.copy(), outputs[i + 1], g)
            if W is not None:
                np.matmul(outputs[i].T, g, out=dW)
                if b is not None:
                    np.sum(g, axis=0, out=db)
                g = g @ W.T
        pairs = [pair for W, b, dW, db, _ in plan for pair in ((W, dW), (b, db)) if pair[0] is not None]
        norm = np.sqrt(sum(np.sum(np.square(grad, dtype=np.float64)) for _, grad in pairs))
        for p, grad in pairs:
            if max_norm > 0:
                grad *= p.dtype.type(min(1, max_norm / (norm + 1e-6)))
            sgd_update(grad, p.dtype.type(lr), p)
    return len(losses)


def mlp_predict(plan, workspace, x, probabilities, out):
    scores = _outputs(plan, x)[-1]
    if probabilities:
        softmax_forward(scores, out)
    else:
        out[...] = scores
