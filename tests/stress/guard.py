"""Kernels and compiled steps on arrays that end, or begin, where memory does: to touch a byte beyond ends the process.

python -m tests.stress.guard [--trials 2000] [--seed 0] [--only affine]
"""

import argparse
import ctypes
import inspect
import itertools
import mmap
import subprocess
import sys

import numpy as np

import fastnn
from fastnn.kernels import cpu, ref
from fastnn.layers import Affine, Relu, Sigmoid, SoftmaxWithLoss, Tanh
from fastnn.models import Network
from fastnn.optimizer import SGD, Adam, Momentum

PAGE = mmap.PAGESIZE
TOLERANCE = {"float32": 1e-3, "float64": 1e-10}  # of the largest: what is read from elsewhere is off by more
CONSTANTS = {"alpha": 0.1, "eps": 1e-5, "seed": 3, "ratio": 0.4, "smoothing": 0.1, "ignore": None}
OUTPUTS = {"out", "argmax", "dx", "dW", "db", "dgamma", "dbeta"}


def guarded(array, rng):
    """A copy of an array between two pages that must not be touched, flush against one of them."""
    pages = -(-array.nbytes // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + (pages + 1) * PAGE):
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0):
            raise OSError("mprotect")
    offset = PAGE + rng.integers(2) * (pages * PAGE - array.nbytes)
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy


def size(rng, most):
    """Small, or a little more or less than a whole number of vectors, or anything."""
    sizes = rng.integers(1, 18), rng.choice([32, 48, 64, 128]) + rng.integers(-1, 2), rng.integers(1, most)
    return min(most, int(rng.choice(sizes)))


def shapes_of(name, rng):
    """Of arrays, and settings that differ from trial to trial, by their names."""
    if "batch" in name:
        N, C, P = size(rng, 100), size(rng, 40), size(rng, 200)
        shapes = dict.fromkeys(("gamma", "beta", "mean", "var", "dgamma", "dbeta"), C)
        return shapes | dict.fromkeys(("x", "dout", "out", "dx"), (N, C, P)), {}
    if "pooling" in name or "convolution" in name:
        N, C, F, (H, W) = rng.integers(1, 4), size(rng, 33), size(rng, 40), rng.integers(7, 30, 2)
        kernel, stride, pad = rng.integers(1, 4, 2), rng.integers(1, 3, 2), rng.integers(0, 2, 2)
        if "pooling" in name:
            stride[1], pad[:] = stride[0], pad[0] * (kernel.min() // 2)
        out = N, F if "convolution" in name else C, *((H, W) + 2 * pad - kernel) // stride + 1
        shapes = dict.fromkeys(("b", "db"), F)
        shapes |= dict.fromkeys(("x", "dx"), (N, C, H, W)) | dict.fromkeys(("W", "dW"), (F, C, *kernel))
        shapes |= dict.fromkeys(("out", "dout", "argmax"), out)
        stride, pad = (pair.tolist() for pair in (stride, pad))
        if "pooling" in name:
            return shapes, {"pool_h": int(kernel[0]), "pool_w": int(kernel[1]), "stride": stride[0], "pad": pad[0]}
        return shapes, {"stride": tuple(stride), "pad": tuple(pad), "dilation": (1, 1)}
    if "affine" in name or "matmul" in name:
        N, D, M = size(rng, 300), size(rng, 500), size(rng, 400)
        shapes = dict.fromkeys(("x", "y", "dx"), (N, D)) | dict.fromkeys(("W", "dW"), (D, M))
        return shapes | dict.fromkeys(("out", "dout"), (N, M)) | dict.fromkeys(("b", "db"), M), {}
    if "softmax" in name or "loss" in name:
        shape = size(rng, 600), size(rng, 300)
        return dict.fromkeys(("x", "y", "t", "dout", "dx"), shape) | {"weight": shape[1]}, {}
    return dict.fromkeys(("x", "y", "t", "dout", "out", "dx"), size(rng, 30_000)), {}


def try_kernel(name, dtype, rng):
    shapes, settings = shapes_of(name, rng)
    names = list(inspect.signature(getattr(ref, name)).parameters)
    written = OUTPUTS | ({"y"} if name.endswith("softmax_forward") else set())
    written |= {"mean", "var"} if name == "batch_normalization_forward" else set()
    arrays = {key: np.abs(rng.standard_normal(shapes[key])).astype(dtype) for key in names if key in shapes}
    if "t" in arrays:
        arrays["t"] = np.round(arrays["t"]).clip(0, 1)
    if "weight" in arrays and rng.integers(2):
        arrays["t"] = rng.integers(0, *arrays["weight"].shape, len(arrays["x"]))
    if name.startswith("max"):  # indices are found, not drawn
        x, top = arrays.get("x", np.zeros(shapes["x"], dtype)), np.empty(shapes["out"], dtype)
        arrays["argmax"] = np.zeros(shapes["out"], np.intp)
        kept = [settings[key] for key in ("pool_h", "pool_w", "stride", "pad")]
        ref.max_pooling_forward(x, *kept, top, arrays["argmax"])
        written = written - {"argmax"} if name.endswith("backward") else written
    near = {key: guarded(array, rng) for key, array in arrays.items()}
    far = {key: array.astype("f8") if array.dtype == dtype else array for key, array in arrays.items()}
    print(name, dtype, {key: array.shape for key, array in arrays.items()}, settings, flush=True)
    got, want = (
        getattr(room, name)(*({**CONSTANTS, **settings, **given}[key] for key in names))
        for room, given in ((cpu, near), (ref, far))
    )
    if got is not None:
        compare(got, want, dtype)
    for key in written & arrays.keys():
        compare(near[key], far[key], dtype)


def try_step(dtype, rng):
    """A compiled step and prediction against the same layer by layer."""
    sizes = [size(rng, 300) for _ in range(rng.integers(2, 5))]
    params = [rng.standard_normal(shape) / 8 for pair in itertools.pairwise(sizes) for shape in (pair, pair[1])]
    kinds, optimizer = rng.choice([Relu, Sigmoid, Tanh], len(sizes)), rng.choice([SGD, Momentum, Adam])
    x, t = rng.standard_normal((size(rng, 300), sizes[0])), rng.integers(0, sizes[-1], 300)
    print(f"compiled step of {sizes}, {optimizer.__name__}", dtype, x.shape, flush=True)

    def network(place):
        layers = {}
        for i in range(len(sizes) - 1):
            layers[f"affine{i}"] = layer = Affine(*(place(p.astype(dtype)) for p in params[2 * i : 2 * i + 2]))
            layer.grads = [place(g) for g in layer.grads]
            layers[f"function{i}"] = kinds[i]()
        return Network(dict(list(layers.items())[:-1]), SoftmaxWithLoss())

    near, far, one_by_one = network(lambda array: guarded(array, rng)), network(np.copy), optimizer()
    x_near, t_near = guarded(x.astype(dtype), rng), guarded(t[: len(x)], rng)
    compare(fastnn.compile(near)(x_near), far.predict(x_near), dtype)
    step = fastnn.compile(near, optimizer())
    for _ in range(2):
        compare(step(x_near, t_near), far.forward(x_near, t_near), dtype)
        far.backward()
        one_by_one.update(far.params, far.grads)
    for got, want in zip(near.grads, far.grads, strict=True):
        compare(got, want, dtype)


def compare(got, want, dtype):
    error, most = np.max(np.abs(got - want), initial=0), TOLERANCE[dtype] * (1 + np.max(np.abs(want), initial=0))
    if not error <= most:
        raise AssertionError(f"off by {error:.3g}, where {most:.3g} is allowed")


def try_all(trials, seed, only):
    rng = np.random.default_rng(seed)
    settled = ("_forward", "_backward", "_input", "_params", "_inference", "_loss", "_error")
    kernels = [name for name in cpu.__all__ if name.endswith(settled)]
    tried = [name for name in [*kernels, "compiled step"] if only in name]
    for trial in range(trials):
        name, dtype = tried[trial % len(tried)], str(rng.choice(list(TOLERANCE)))
        if name == "compiled step":
            try_step(dtype, rng)
        else:
            try_kernel(name, dtype, rng)
    print(f"{trials} trials of {len(tried)} kernels and steps: nothing beyond an array was touched, all results right")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kernels with this in their names, or 'compiled step'")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.in_this_process:
        try_all(args.trials, args.seed, args.only)
        return 0
    command = [sys.executable, "-m", "tests.stress.guard", "--in-this-process", *sys.argv[1:]]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    print(f"ended with {done.returncode} in: " if done.returncode else "", done.stdout.splitlines()[-1], sep="")
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
