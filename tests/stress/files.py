"""Hostile files: hundreds made on purpose, and a million mutations of good ones, for every reader of files.

Each must load, or raise FileFormatError in one line, within a second, without taking more memory than twice the limit.

python -m tests.stress.files [--mutations 1000000] [--processes 2]
"""

import argparse
import gzip
import io
import os
import pickle
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import safetensors.numpy

from fastnn.dataset import mnist
from fastnn.errors import FileFormatError
from fastnn.serialize import load_arrays

CAP = 2**25  # bytes that a file's arrays may take
SIZES = [0, 1, 2, 127, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
ARRAYS = {"W1": np.ones((4, 3), "f4"), "b1": np.zeros(3, "f2"), "n": np.arange(5)}


def npz(members, method=zipfile.ZIP_DEFLATED):
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return f.getvalue()


def npy(a):
    f = io.BytesIO()
    np.lib.format.write_array(f, np.asarray(a))
    return f.getvalue()


def npy_header(text, version=(1, 0)):
    text = text.encode("latin1")
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text


def tensors(header, data=b"", length=None):
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def idx(*shape, data=b"", kind=8, zero=0):
    return bytes([zero, 0, kind, len(shape)]) + b"".join((n % 2**32).to_bytes(4, "big") for n in shape) + data


GOOD = {
    ".npz": [npz({f"{k}.npy": npy(a) for k, a in ARRAYS.items()}), npz({"W.npy": npy(np.eye(3))}, zipfile.ZIP_STORED)],
    ".safetensors": [safetensors.numpy.save(ARRAYS), safetensors.numpy.save({"W": np.eye(3)})],
    ".pkl": [pickle.dumps(ARRAYS, protocol) for protocol in range(6)] + [pickle.dumps(list(ARRAYS.values()))],
    ".idx": [idx(2, 28, 28, data=bytes(1568)), gzip.compress(idx(2, 28, 28, data=bytes(1568)), mtime=0)],
}


def hostile():
    """(extension, content) of files made to break readers."""
    for extension, goods in GOOD.items():
        yield from ((extension, junk) for junk in (b"", b"\0", b"<!DOCTYPE html>", os.urandom(4096), b"\xff" * 4096))
        for good in goods:
            for k in range(1, 9):
                yield extension, good[: len(good) * k // 9]  # cut short
            yield extension, good + good
            yield extension, good + b"\0" * 100_000
            yield extension, good[len(good) // 2 :]
    for n in SIZES:
        yield ".safetensors", tensors(b"{}", length=n)
        yield (
            ".safetensors",
            tensors(b'{"W":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}' % (n, 4 * n), bytes(64)),
        )
        yield ".safetensors", tensors(b'{"W":{"dtype":"F64","shape":[4],"data_offsets":[%d,32]}}' % n, bytes(64))
        yield ".safetensors", tensors(b'{"W":{"dtype":"U8","shape":[%d,%d],"data_offsets":[0,0]}}' % (n, n))
        yield (
            ".npz",
            npz({"W.npy": npy_header(repr({"descr": "<f4", "fortran_order": False, "shape": (n,)})) + bytes(64)}),
        )
        yield ".npz", npz({"W.npy": npy_header(repr({"descr": "|u1", "fortran_order": True, "shape": (n, n, 0)}))})
        yield ".npz", npz({"W.npy": npy_header(repr({"descr": f"<f{n}", "fortran_order": False, "shape": (1,)}))})
        yield ".pkl", b"\x80\x05\x96" + n.to_bytes(8, "little") + b"."
        yield ".pkl", b"\x80\x04\x8e" + n.to_bytes(8, "little") + b"."
        yield ".pkl", b"\x80\x04\x8d" + n.to_bytes(8, "little") + b"."
        yield ".pkl", b"\x80\x02}r" + (n % 2**32).to_bytes(4, "little") + b"0."
        yield ".pkl", b"\x80\x02j" + (n % 2**32).to_bytes(4, "little") + b"."
        yield ".pkl", b"\x80\x02\x8b" + (n % 2**32).to_bytes(4, "little") + b"1."
        yield ".pkl", b"\x80\x04\x95" + n.to_bytes(8, "little") + b"}."
        yield ".idx", idx(n, 28, 28, data=bytes(64))
        yield ".idx", idx(n, n, n)
        yield ".idx", gzip.compress(idx(n, 28, 28, data=bytes(64)), mtime=0)
        yield ".idx", idx(2, 28, 28, data=bytes(1568), kind=n % 256, zero=n % 2)
    for descr in ("O", "<U9", "|V8", "<c8", "<f16", "<M8[s]", "[('a', '<f4')]", "x" * 50_000):
        text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': (2,)}}"
        yield ".npz", npz({"W.npy": npy_header(text) + bytes(64)})
        yield ".npz", npz({"W.npy": npy_header(text, (2, 0)) + bytes(64)})
    for text in (
        "[" * 50_000,
        "{}",
        "None",
        "__import__('os').abort()",
        "{'shape': " + "(" * 3_000 + ")" * 3_000 + "}",
    ):
        yield ".npz", npz({"W.npy": npy_header(text) + bytes(64)})
    for name in ("../W.npy", "W", "/W.npy", "W.npy/", "a/" * 500 + "W.npy"):
        yield ".npz", npz({name: npy(np.ones(2))})
    zeros = np.zeros(2**27, "u1")
    yield ".npz", npz({"W.npy": npy(zeros)})  # bombs
    yield ".npz", npz({f"{i}.npy": npy(zeros[: 2**22]) for i in range(32)})
    yield ".idx", gzip.compress(idx(2**18, 28, 28) + bytes(2**18 * 784), mtime=0)
    yield ".idx", gzip.compress(idx(1, 28, 28) + bytes(2**28), mtime=0)
    yield ".safetensors", tensors(b"[" * 100_000)
    yield ".safetensors", tensors(b'{"a":' * 50_000)
    yield ".safetensors", tensors(b'{"__metadata__":{"' + b"k" * 90_000 + b'":"v"}}')
    for dtype in (b"BF16", b"F8_E4M3", b"C64", b"X", b"U64", b"BOOL"):
        yield ".safetensors", tensors(b'{"W":{"dtype":"%s","shape":[1],"data_offsets":[0,8]}}' % dtype, bytes(8))
    for opcode in range(256):  # alone, and after something to work on
        yield ".pkl", b"\x80\x04" + bytes([opcode]) + b"."
        yield ".pkl", b"\x80\x04}]N\x8c\x01W" + bytes([opcode]) + b"\x01\0\0\0\0\0\0\0\n."
    for name in ("os system", "builtins eval", "builtins getattr", "numpy load", "fastnn.serialize load_arrays"):
        yield ".pkl", f"c{name.replace(' ', chr(10))}\n(S'echo hostile >&2'\ntR.".encode()
    yield ".pkl", b"\x80\x02" + b"]" * 1_000_001 + b"."
    yield ".pkl", b"(" * 1_000_000 + b"."
    yield ".pkl", b"\x80\x02]" + b"q\x012a" * 40 + b"."
    yield ".pkl", b"I" + b"9" * 1_000_000 + b"\n."


def mutate(data, other, rng):
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(data) + 1))
        match rng.integers(0, 7):
            case 0:
                data[at : at + 1] = [int(rng.integers(0, 256))]
            case 1:
                data[at : at + 1] = [(data[at] ^ 1 << int(rng.integers(0, 8))) if at < len(data) else 0]
            case 2:
                width = int(rng.choice([1, 2, 4, 8]))
                number = SIZES[rng.integers(0, len(SIZES))] % 256**width
                data[at : at + width] = number.to_bytes(width, rng.choice(["little", "big"]))
            case 3:
                del data[at : at + int(rng.integers(1, 40))]
            case 4:
                data[at:at] = data[at : at + int(rng.integers(1, 40))]
            case 5:
                cut = int(rng.integers(0, len(other)))
                data[at : at + 30] = other[cut : cut + int(rng.integers(1, 60))]
            case 6:
                del data[at:]
    return bytes(data)


class Reader:
    """Reads files, and keeps count of what should not happen."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.refused = self.loaded = 0
        self.slowest = 0.0
        self.wrong = []

    def read(self, extension, content):
        path = self.folder / f"file{extension}"
        path.write_bytes(content)
        start = time.perf_counter()
        try:
            if extension == ".idx":
                mnist._read_idx(path, "train-images-idx3-ubyte")
            else:
                load_arrays(path, max_bytes=CAP)
            self.loaded += 1
        except FileFormatError as error:
            self.refused += 1
            if "\n" in str(error):
                self.wrong.append((extension, content, "more than one line"))
        except BaseException as error:
            self.wrong.append((extension, content, f"{type(error).__name__}: {error}"))
        seconds = time.perf_counter() - start
        self.slowest = max(self.slowest, seconds)
        if seconds > 1:
            self.wrong.append((extension, content, f"{seconds:.1f} s"))


def memory(what):
    """Bytes that this process holds (VmRSS), or has held at most (VmHWM) since `forget_peak`; Linux knows."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


def campaign(seed, mutations):
    rng = np.random.default_rng(seed)
    mnist._MAX_BYTES = CAP
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        reader = Reader(folder)
        for extension, goods in GOOD.items():
            for good in goods:
                reader.read(extension, good)
        if reader.refused or reader.wrong:
            raise AssertionError("a good file was refused")
        made = list(hostile())
        forget_peak()
        before = memory("VmRSS")
        for extension, content in made:
            reader.read(extension, content)
        for _ in range(mutations):
            extension = list(GOOD)[rng.integers(0, len(GOOD))]
            goods = GOOD[extension]
            other = goods[rng.integers(0, len(goods))]
            reader.read(extension, mutate(goods[rng.integers(0, len(goods))], other, rng))
    return len(made), reader.loaded, reader.refused, reader.slowest, memory("VmHWM") - before, reader.wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    each = -(-args.mutations // args.processes)
    start = time.perf_counter()
    with ProcessPoolExecutor(args.processes) as pool:
        results = list(pool.map(campaign, range(args.processes), [each] * args.processes))
    made, loaded, refused = results[0][0], sum(r[1] for r in results), sum(r[2] for r in results)
    slowest, taken, wrong = max(r[3] for r in results), max(r[4] for r in results), [w for r in results for w in r[5]]
    print(
        f"{made} hostile files and {each * args.processes} mutations, {time.perf_counter() - start:.0f} s: "
        f"{refused} refused, {loaded} loaded, {len(wrong)} wrong; slowest {slowest:.2f} s, "
        f"memory {taken / CAP:.2f} x the limit of {CAP >> 20} MiB"
    )
    for extension, content, why in wrong[:20]:
        print(f"  {extension} {content[:200]!r}: {why[:300]}")
    return 1 if wrong or taken > 2 * CAP else 0


if __name__ == "__main__":
    sys.exit(main())
