import functools
import gzip
import hashlib
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastnn import FileFormatError
from fastnn.dataset import mnist
from fastnn.dataset.mnist import load_mnist

TRAIN_X, TRAIN_T, TEST_X, TEST_T = mnist.MD5


def idx(a):
    """The bytes of an IDX file of uint8."""
    return bytes([0, 0, 8, a.ndim]) + b"".join(n.to_bytes(4, "big") for n in a.shape) + a.astype(np.uint8).tobytes()


def make_files():
    rng = np.random.default_rng(0)
    return {
        TRAIN_X: idx(rng.integers(256, size=(12, 28, 28))),
        TRAIN_T: idx(np.arange(12) % 10),
        TEST_X: idx(rng.integers(256, size=(5, 28, 28))),
        TEST_T: idx(np.array([9, 0, 3, 3, 1])),
    }


FILES = make_files()
REAL = os.environ.get("FASTNN_DATA_DIR")  # read here: the fixture below hides it


@pytest.fixture
def folder(tmp_path):
    """Four small files in the format of MNIST, as .gz."""
    path = tmp_path / "data"
    path.mkdir()
    for name, content in FILES.items():
        (path / f"{name}.gz").write_bytes(gzip.compress(content))
    return path


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTNN_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(mnist, "MIRRORS", [])


def one_line(info, *parts):
    message = str(info.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


# Form


@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("one_hot_label", [True, False])
def test_switches(folder, normalize, flatten, one_hot_label):
    (x, t), (x_test, t_test) = load_mnist(normalize, flatten, one_hot_label, data_dir=folder)
    pixels = np.frombuffer(FILES[TRAIN_X], np.uint8, offset=16).reshape(12, 784)
    assert x.shape == ((12, 784) if flatten else (12, 1, 28, 28))
    assert x_test.shape[1:] == x.shape[1:]
    want = pixels.astype(np.float32) / np.float32(255) if normalize else pixels
    assert x.dtype == want.dtype
    assert_array_equal(x.reshape(12, 784), want)
    if one_hot_label:
        assert t.shape == (12, 10)
        assert_array_equal(t_test, np.eye(10)[[9, 0, 3, 3, 1]])
    else:
        assert t.dtype == np.uint8
        assert_array_equal(t_test, [9, 0, 3, 3, 1])
    assert x.flags.writeable
    assert t.flags.writeable


@pytest.mark.parametrize("spelling", ["{}", "{}.gz"])
@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("sub", ["", "mnist"])
@pytest.mark.parametrize("how", ["argument", "environment"])
def test_spellings_and_places(tmp_path, monkeypatch, spelling, separator, sub, how):
    where = tmp_path / "d" / sub
    where.mkdir(parents=True)
    for name, content in FILES.items():
        name = spelling.format(name.replace("-idx", separator + "idx"))
        (where / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    if how == "environment":
        monkeypatch.setenv("FASTNN_DATA_DIR", str(tmp_path / "d"))
    _, (_, t_test) = load_mnist(data_dir=str(tmp_path / "d") if how == "argument" else None)
    assert_array_equal(t_test, [9, 0, 3, 3, 1])


def test_argument_goes_before_environment(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTNN_DATA_DIR", str(tmp_path / "nowhere"))
    load_mnist(data_dir=folder)
    with pytest.raises(FileNotFoundError) as info:
        load_mnist()
    one_line(info, "FASTNN_DATA_DIR", "nowhere")


@pytest.mark.skipif(not REAL, reason="FASTNN_DATA_DIR does not point at MNIST")
def test_real_mnist():
    for name, md5 in mnist.MD5.items():
        a = mnist._read_idx(mnist._find(Path(REAL), name, "FASTNN_DATA_DIR"), name, md5)
        assert a.shape == ((60000 if "train" in name else 10000,) + ((28, 28) if "images" in name else ()))


# Wrong files


def test_missing_file_is_named(folder):
    (folder / f"{TEST_T}.gz").unlink()
    with pytest.raises(FileNotFoundError) as info:
        load_mnist(data_dir=folder)
    one_line(info, TEST_T, str(folder))


def test_directory_in_place_of_a_file(folder):
    (folder / f"{TEST_T}.gz").unlink()
    (folder / TEST_T).mkdir()
    with pytest.raises(FileFormatError) as info:
        load_mnist(data_dir=folder)
    one_line(info, TEST_T, "directory")


def zeros(n):
    return gzip.compress(bytes(n), compresslevel=9)


def header(ndim, *shape):
    return bytes([0, 0, 8, ndim]) + b"".join(n.to_bytes(4, "big") for n in shape)


GOOD_GZ = gzip.compress(FILES[TRAIN_X])
WRONG = {
    "empty": (b"", "starting"),
    "a web page": (b"<!DOCTYPE html><title>403</title>", "<!DOCTYPE"),
    "a web page, zipped": (gzip.compress(b"<!DOCTYPE html><title>403</title>"), "<!DOCTYPE"),
    "labels for images": (gzip.compress(FILES[TRAIN_T]), "starting"),
    "a terabyte declared in 80 bytes": (header(3, 2**31, 28, 28) + bytes(64), "declares"),
    "a terabyte declared in zipped 80 bytes": (gzip.compress(header(3, 2**31, 28, 28) + bytes(64)), "declares"),
    "more than the limit": (gzip.compress(header(3, 2**21, 28, 28) + os.urandom(2**21)), "declares"),
    "dimensions that overflow": (header(3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(64), "shape"),
    "no images": (header(3, 0, 28, 28), "shape"),
    "images of another size": (idx(np.zeros((2, 32, 32))), "32, 32"),
    "truncated": (FILES[TRAIN_X][:-1], "declares"),
    "truncated, then zipped": (gzip.compress(FILES[TRAIN_X][:-1]), "found 9407"),
    "zipped, then truncated": (GOOD_GZ[:-20], "gzip"),
    "one byte too many": (FILES[TRAIN_X] + b"\0", "found more"),
    "bit rot": (GOOD_GZ[:5000] + bytes([GOOD_GZ[5000] ^ 255]) + GOOD_GZ[5001:], "gzip"),
    "damaged gzip": (GOOD_GZ[:10] + b"\xff" * 9000, "gzip"),
    "junk after gzip": (GOOD_GZ + b"junk", "gzip"),
    "a gzip bomb": (gzip.compress(header(3, 1, 28, 28) + bytes(784)) + zeros(2**24) * 8, "found more"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_images(folder, what):
    content, part = WRONG[what]
    (folder / f"{TRAIN_X}.gz").write_bytes(content)
    with pytest.raises(FileFormatError) as info:
        load_mnist(data_dir=folder)
    one_line(info, f"{TRAIN_X}.gz", "expected", "found", part)


@pytest.mark.parametrize(
    ("labels", "part"), [(np.arange(12), "found 11"), (np.zeros(11), "found 11"), (np.zeros((12, 1)), "starting")]
)
def test_wrong_labels(folder, labels, part):
    (folder / f"{TRAIN_T}.gz").write_bytes(idx(labels))
    with pytest.raises(FileFormatError) as info:
        load_mnist(data_dir=folder)
    one_line(info, TRAIN_T, part)


def test_size_is_checked_before_memory_is_taken(folder, monkeypatch):
    monkeypatch.setattr(mnist.np, "empty", lambda *a, **k: pytest.fail("allocated"))
    (folder / f"{TRAIN_X}.gz").write_bytes(header(3, 2**31, 28, 28) + bytes(64))
    with pytest.raises(FileFormatError):
        load_mnist(data_dir=folder)


# Cache and download


@pytest.fixture
def checksums(monkeypatch):
    monkeypatch.setattr(mnist, "MD5", {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()})


def url(path):
    return path.as_uri() + "/"


def test_downloads_once(folder, checksums, monkeypatch, tmp_path):
    monkeypatch.setattr(mnist, "MIRRORS", [url(tmp_path / "gone"), url(folder)])
    _, (_, t_test) = load_mnist()
    assert_array_equal(t_test, [9, 0, 3, 3, 1])
    assert sorted(p.name for p in mnist.cache_dir().iterdir()) == sorted(f"{name}.gz" for name in FILES)
    monkeypatch.setattr(mnist, "MIRRORS", [])
    _, (_, t_test) = load_mnist()
    assert_array_equal(t_test, [9, 0, 3, 3, 1])


def test_damaged_cache_is_a_miss(folder, checksums, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", [url(folder)])
    load_mnist()
    damaged = mnist.cache_dir() / f"{TEST_T}.gz"
    damaged.write_bytes(idx(np.zeros(5)))  # well-formed, but not the labels
    _, (_, t_test) = load_mnist()
    assert_array_equal(t_test, [9, 0, 3, 3, 1])
    assert damaged.read_bytes() == (folder / damaged.name).read_bytes()


def test_wrong_content_never_reaches_the_cache(folder, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", [url(folder)])  # small files, the real MD5
    with pytest.raises(ConnectionError) as info:
        load_mnist()
    one_line(info, "MD5", "data_dir", "FASTNN_DATA_DIR", url(folder))
    assert list(mnist.cache_dir().iterdir()) == []


def test_an_endless_download_stops(folder, checksums, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", [url(folder)])
    monkeypatch.setattr(mnist, "_MAX_DOWNLOAD", 1000)
    with pytest.raises(ConnectionError, match="more than 1000 bytes"):
        load_mnist()


def test_cache_folder_cannot_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(PermissionError) as info:
        load_mnist()
    one_line(info, "cache folder", "FASTNN_DATA_DIR")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_over_http(folder, checksums, monkeypatch, capfd):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            here = f"http://127.0.0.1:{server.server_port}/"
            monkeypatch.setattr(mnist, "MIRRORS", [f"{here}absent/", here])
            _, (_, t_test) = load_mnist()
            assert_array_equal(t_test, [9, 0, 3, 3, 1])
            assert "train-images" in capfd.readouterr().err  # the progress bar
            monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "other"))
            monkeypatch.setattr(mnist, "MIRRORS", [f"{here}absent/"])
            with pytest.raises(ConnectionError, match="404"):
                load_mnist()
        finally:
            server.shutdown()
            thread.join()
