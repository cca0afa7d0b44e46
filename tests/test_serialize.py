import builtins
import errno
import io
import os
import pickle
import pickletools
import subprocess
import sys
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

from fastnn import FileFormatError, _atomic
from fastnn.serialize import load_arrays, load_into, save_arrays

WRITTEN = [".safetensors", ".npz"]
RNG = np.random.default_rng(0)
PARAMS = {"W1": RNG.standard_normal((3, 4)), "b1": RNG.standard_normal(4).astype("float32"), "n": np.array(7)}


def one_line(info, *parts):
    message = str(info.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def save_pickle(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


# Round trips

arrays_of_any_layout = hnp.arrays(
    dtype=st.sampled_from(["<f2", ">f4", "<f8", ">f8", "<f4", ">i4", "u1", "<u8", "?"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
).flatmap(lambda a: st.sampled_from([a, a.T, a[::-1] if a.ndim else a, a[..., ::2] if a.ndim else a]))
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20).filter(
    lambda name: name != "__metadata__"
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, arrays_of_any_layout, max_size=4), st.sampled_from(WRITTEN))
def test_round_trip_keeps_everything(tmp_path_factory, arrays, extension):
    path = tmp_path_factory.mktemp("r") / f"a{extension}"
    save_arrays(path, arrays, dtype=None)
    loaded = load_arrays(path)
    assert set(loaded) == set(arrays)
    for name, a in arrays.items():
        got = loaded[name]
        assert got.dtype == a.dtype.newbyteorder("=")
        assert got.flags.c_contiguous
        assert got.flags.writeable
        assert_array_equal(got, a, strict=False)
        assert got.shape == a.shape


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, arrays_of_any_layout, max_size=3), st.integers(0, 5), st.booleans())
def test_pickles_load_as_pickle_would(tmp_path_factory, arrays, protocol, as_list):
    path = tmp_path_factory.mktemp("p") / "a.pkl"
    save_pickle(path, list(arrays.values()) if as_list else arrays, protocol)
    for got, want in zip(load_arrays(path).values(), arrays.values(), strict=True):
        assert got.dtype == want.dtype.newbyteorder("=")
        assert got.flags.writeable
        assert got.shape == want.shape
        assert_array_equal(got, want)


@pytest.mark.parametrize("extension", WRITTEN)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_stored_as_asked_and_ints_kept(tmp_path, extension, dtype):
    path = tmp_path / f"a{extension}"
    save_arrays(path, PARAMS, dtype=dtype)
    loaded = load_arrays(path)
    assert_array_equal(loaded["W1"], PARAMS["W1"].astype(dtype), strict=True)
    assert_array_equal(loaded["n"], PARAMS["n"], strict=True)


def test_float16_is_the_default(tmp_path):
    save_arrays(tmp_path / "a.safetensors", PARAMS)
    assert load_arrays(tmp_path / "a.safetensors")["b1"].dtype == np.float16


@pytest.mark.parametrize("extension", WRITTEN)
@pytest.mark.parametrize(
    "a",
    [np.arange(6.0).reshape(2, 3).T, np.arange(12.0)[::3], np.arange(6, dtype=">f8"), np.asfortranarray(np.eye(2, 3))],
    ids=["transposed", "strided", "byte-swapped", "fortran"],
)
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_layouts(tmp_path, extension, a, dtype):
    save_arrays(tmp_path / f"a{extension}", {"W": a}, dtype=dtype)
    assert_array_equal(load_arrays(tmp_path / f"a{extension}")["W"], a)


def test_files_are_what_other_programs_read(tmp_path):
    save_arrays(tmp_path / "a.safetensors", {"W": PARAMS["W1"].T}, dtype=None)
    assert_array_equal(safetensors.numpy.load_file(tmp_path / "a.safetensors")["W"], PARAMS["W1"].T)
    save_arrays(tmp_path / "a.npz", {"W": PARAMS["W1"].T, "file": np.ones(1)}, dtype=None)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as f:
        assert_array_equal(f["W"], PARAMS["W1"].T)
        assert_array_equal(f["file"], [1])
    np.savez_compressed(tmp_path / "b.npz", W=np.asfortranarray(PARAMS["W1"]))
    assert_array_equal(load_arrays(tmp_path / "b.npz")["W"], PARAMS["W1"])


@pytest.mark.parametrize("extension", [*WRITTEN, ".pkl"])
def test_nan_and_inf_come_as_they_are(tmp_path, extension):
    a = np.array([np.nan, np.inf, -np.inf, -0.0])
    path = tmp_path / f"a{extension}"
    if extension == ".pkl":
        save_pickle(path, {"a": a})
    else:
        save_arrays(path, {"a": a})
    got = load_arrays(path)["a"]
    assert_array_equal(got, a)
    assert np.signbit(got[3])


def test_extension_in_capitals_and_no_arrays(tmp_path):
    save_arrays(str(tmp_path / "A.NPZ"), {})
    assert load_arrays(tmp_path / "A.NPZ") == {}


# Writing whole or not at all


@pytest.mark.parametrize("extension", WRITTEN)
@pytest.mark.parametrize(
    ("arrays", "kind", "parts"),
    [
        ({"b": np.ones(2), "W1": np.array([1.0, 7e4])}, ValueError, ["'W1'", "70000", "float16", "dtype='float32'"]),
        ({"W1": np.array([1.0, None])}, TypeError, ["'W1'", "object"]),
        ({"W1": np.ones(2, complex)}, TypeError, ["'W1'", "complex"]),
        ({"W1": np.array(["a"])}, TypeError, ["'W1'", "<U1"]),
        ({1: np.ones(2)}, TypeError, ["str", "1"]),
        ({"a\0": np.ones(2)}, ValueError, ["NUL"]),
        ({"\ud800": np.ones(2)}, ValueError, ["UTF-8"]),
        ({"__metadata__": np.ones(2)}, ValueError, ["__metadata__"]),
    ],
)
def test_refused_before_anything_is_written(tmp_path, extension, arrays, kind, parts):
    path = tmp_path / f"a{extension}"
    path.write_bytes(b"old")
    with pytest.raises(kind) as info:
        save_arrays(path, arrays)
    one_line(info, *parts)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


def test_largest_float16_and_float32(tmp_path):
    path = tmp_path / "a.npz"
    save_arrays(path, {"W": np.array([65504.0, 65519.9, np.inf])})
    assert_array_equal(load_arrays(path)["W"], [65504, 65504, np.inf])
    with pytest.raises(ValueError, match="dtype='float64'"):
        save_arrays(path, {"W": np.array([1e39])}, dtype="float32")


@pytest.mark.parametrize("extension", WRITTEN)
@pytest.mark.parametrize("failing", ["write", "fsync", "replace", "interrupt"])
def test_old_file_survives_failure(tmp_path, monkeypatch, extension, failing):
    path = tmp_path / f"a{extension}"
    save_arrays(path, {"W": np.ones(2)})
    error = KeyboardInterrupt() if failing == "interrupt" else OSError(errno.ENOSPC, "No space left on device")

    def fail(*args, **kwargs):
        raise error

    if failing == "write":
        monkeypatch.setattr(safetensors.numpy, "save", fail)
        monkeypatch.setattr(np.lib.format, "write_array", fail)
    else:
        monkeypatch.setattr(_atomic.os, "replace" if failing == "replace" else "fsync", fail)
    with pytest.raises(type(error)):
        save_arrays(path, {"W": np.zeros(2)})
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [path.name]
    assert_array_equal(load_arrays(path)["W"], [1, 1])


@pytest.mark.skipif(os.name == "nt", reason="signals and modes are POSIX")
def test_killed_while_writing(tmp_path):
    path = tmp_path / "a.npz"
    save_arrays(path, {"W": np.ones(2)})
    code = f"""
import os, numpy as np
from fastnn import _atomic, serialize
_atomic.os.fsync = lambda fd: os.kill(os.getpid(), 9)  # all written, not yet renamed
serialize.save_arrays({str(path)!r}, {{"W": np.zeros(2)}})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=os.path.dirname(os.path.dirname(__file__)))
    assert done.returncode == -9
    assert_array_equal(load_arrays(path)["W"], [1, 1])


@pytest.mark.skipif(os.name == "nt", reason="modes and links are POSIX")
def test_mode_and_link_are_kept(tmp_path):
    path, link = tmp_path / "a.npz", tmp_path / "link.npz"
    umask = os.umask(0o027)
    try:
        save_arrays(path, {"W": np.ones(2)})
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o604)
    link.symlink_to(path)
    save_arrays(link, {"W": np.zeros(2)})
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o604
    assert_array_equal(load_arrays(path)["W"], [0, 0])


def test_places_that_are_no_file(tmp_path):
    (tmp_path / "d.npz").mkdir()
    with pytest.raises(IsADirectoryError) as info:
        save_arrays(tmp_path / "d.npz", {})
    one_line(info, "d.npz", "directory")
    with pytest.raises(FileNotFoundError) as info:
        save_arrays(tmp_path / "absent" / "a.npz", {})
    one_line(info, "absent", "folder")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "p.npz")
        with pytest.raises(ValueError, match="pipe"):
            save_arrays(tmp_path / "p.npz", {})
        with pytest.raises(FileFormatError, match="pipe"):  # and does not wait for a writer
            load_arrays(tmp_path / "p.npz")


@pytest.mark.parametrize("name", ["weights", "weights.pth", "weights.pkl.gz", ".npz"])
def test_unknown_extension(tmp_path, name):
    for call in (load_arrays, lambda path: save_arrays(path, PARAMS)):
        with pytest.raises(ValueError, match=r"\.safetensors, \.npz or .*\.pkl") as info:
            call(tmp_path / name)
        one_line(info, name)


def test_pickles_are_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"\.safetensors or \.npz"):
        save_arrays(tmp_path / "a.pkl", PARAMS)
    with pytest.raises(ValueError, match="float8"):
        save_arrays(tmp_path / "a.npz", PARAMS, dtype="float8")


# Damaged and hostile files


def npy(a, **kwargs):
    f = io.BytesIO()
    np.lib.format.write_array(f, a, **kwargs)
    return f.getvalue()


def npy_header(shape, descr="<f4", fortran=False):
    f = io.BytesIO()
    np.lib.format.write_array_header_1_0(f, {"descr": descr, "fortran_order": fortran, "shape": shape})
    return f.getvalue()


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return f.getvalue()


def tensors(header, data=b"", length=None):
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


GOOD_NPZ, GOOD_TENSORS = zipped({"W.npy": npy(np.ones(200))}), safetensors.numpy.save({"W": np.ones(200)})
STORED_NPZ = zipped({"W.npy": npy(np.full(3, 7.0))}, zipfile.ZIP_STORED)
WRONG = {
    "empty.npz": b"",
    "page.npz": b"<!DOCTYPE html><title>403</title>",
    "truncated.npz": GOOD_NPZ[:-30],
    "objects.npz": zipped({"W.npy": npy(np.array([os.system, None]), allow_pickle=True)}) if os.name != "nt" else b"",
    "terabyte.npz": zipped({"W.npy": npy_header((2**38,)) + bytes(64)}),
    "overflow.npz": zipped({"W.npy": npy_header((2**63, 2**63, 0)) + bytes(64)}),
    "negative.npz": zipped({"W.npy": npy_header((-1, -16)) + bytes(64)}),
    "structured.npz": zipped({"W.npy": npy_header((4,), [("a", "<f4"), ("b", "O")]) + bytes(64)}),
    "text.npz": zipped({"W.npy": npy(np.array(["a"]))}),
    "complex.npz": zipped({"W.npy": npy(np.ones(2, complex))}),
    "version.npz": zipped({"W.npy": b"\x93NUMPY\x03\x00" + bytes(80)}),
    "longer.npz": zipped({"W.npy": npy(np.ones(2)) + b"\0"}),
    "checksum.npz": STORED_NPZ.replace(np.float64(7).tobytes(), np.float64(8).tobytes()),
    "stray.npz": zipped({"W.txt": b"hello"}),
    "empty.safetensors": b"",
    "short.safetensors": b"\x05",
    "page.safetensors": b"<!DOCTYPE html><title>403</title>",
    "truncated.safetensors": GOOD_TENSORS[:-1],
    "long.safetensors": GOOD_TENSORS + b"\0",
    "header.safetensors": tensors(b"{}", length=2**60),
    "nested.safetensors": tensors(b"[" * 100_000),
    "terabyte.safetensors": tensors(b'{"W":{"dtype":"F32","shape":[274877906944],"data_offsets":[0,1099511627776]}}'),
    "overlap.safetensors": tensors(b'{"W":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}}', bytes(4)),
    "bf16.safetensors": tensors(b'{"W":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}', bytes(4)),
    "c64.safetensors": tensors(b'{"W":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}', bytes(8)),
    "empty.pkl": b"",
    "page.pkl": b"<!DOCTYPE html><title>403</title>",
    "truncated.pkl": pickle.dumps(PARAMS)[:-40],
    "number.pkl": pickle.dumps(3),
    "array.pkl": pickle.dumps(np.ones(3)),
    "nested.pkl": pickle.dumps({"W": [np.ones(3)]}),
    "keys.pkl": pickle.dumps({1: np.ones(3)}),
    "objects.pkl": pickle.dumps({"W": np.array([1, None])}),
    "text.pkl": pickle.dumps({"W": np.array(["a"])}),
    "structured.pkl": pickle.dumps({"W": np.zeros(2, [("a", "f4")])}),
    "matrix.pkl": pickle.dumps({"W": np.ma.zeros(2)}),
    "bytearray.pkl": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".",
    "bytes.pkl": b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b".",
    "memo.pkl": b"\x80\x02}r\xff\xff\xff\xff0.",
    "endless.pkl": b"\x80\x02" + b"N" * 1_000_001 + b"}.",
    "state.pkl": b"c_codecs\nencode\n}b.",
    "underflow.pkl": b"\x80\x02s.",
}


@pytest.mark.parametrize("name", WRONG)
def test_damaged_or_hostile(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(WRONG[name])
    with pytest.raises(FileFormatError) as info:
        load_arrays(path)
    one_line(info, name, "not a readable")
    assert len(str(info.value)) < 500 + len(str(path))


def peak_while_loading(path, **kwargs):
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError) as info:
            load_arrays(path, **kwargs)
        return tracemalloc.get_traced_memory()[1], info
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "name", [n for n in WRONG if n.partition(".")[0] in ("terabyte", "header", "bytearray", "memo")]
)
def test_no_memory_for_claims(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(WRONG[name])
    peak, _ = peak_while_loading(path)
    assert peak < 2**21


def test_bombs_stop_at_max_bytes(tmp_path):
    path = tmp_path / "bomb.npz"
    path.write_bytes(zipped({"W.npy": npy(np.zeros(2**21))}))
    peak, info = peak_while_loading(path, max_bytes=2**20)
    one_line(info, "bomb.npz", "max_bytes=1048576")
    assert peak < 2**21
    a = np.zeros(1000)
    path = save_pickle(tmp_path / "bomb.pkl", [a, *[a] * 2000])  # one array by reference, 2001 when copied
    peak, info = peak_while_loading(path, max_bytes=2**20)
    one_line(info, "bomb.pkl", "max_bytes=1048576")
    assert peak < 2**22
    with pytest.raises(FileFormatError, match="at most max_bytes=100 bytes"):
        load_arrays(path, max_bytes=100)


@pytest.mark.parametrize("extension", [*WRITTEN, ".pkl"])
def test_missing_file_and_directory(tmp_path, extension):
    with pytest.raises(FileNotFoundError, match="absent"):
        load_arrays(tmp_path / f"absent{extension}")
    (tmp_path / f"d{extension}").mkdir()
    with pytest.raises(OSError, match=f"d{extension}"):
        load_arrays(tmp_path / f"d{extension}")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_told_or_harmless(tmp_path_factory, data):
    """Changed bytes: a FileFormatError or arrays, nothing else."""
    extension = data.draw(st.sampled_from([*WRITTEN, ".pkl"]))
    good = {".npz": GOOD_NPZ, ".safetensors": GOOD_TENSORS, ".pkl": pickle.dumps(PARAMS, protocol=2)}[extension]
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("d") / f"a{extension}"
    path.write_bytes(content)
    try:
        load_arrays(path)
    except FileFormatError as error:
        assert "\n" not in str(error)


# Pickles never run anything


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args, state=None):
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.parts


def global_pickle(name, *, protocol=0):
    """A pickle of the global `name` as given, without importing it, called with one str."""
    module, _, attribute = name.partition(" ")
    if protocol == 0:
        return b"c" + f"{module}\n{attribute}\n".encode() + b"(Vtouch executed\ntR."
    texts = b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, attribute))
    return b"\x80\x04" + texts + b"\x93\x8c\x0etouch executed\x85R."


@pytest.mark.parametrize("protocol", [0, 4])
@pytest.mark.parametrize(
    "name",
    [
        *("os system", "posix system", "subprocess Popen", "builtins eval", "builtins exec", "__builtin__ eval"),
        *(
            "builtins getattr",
            "builtins __import__",
            "operator attrgetter",
            "functools partial",
            "importlib import_module",
        ),
        *("numpy load", "numpy fromfile", "numpy memmap", "numpy.lib.npyio load", "numpy loadtxt", "numpy save"),
        *("numpy.testing._private.utils runstring", "numpy.f2py.diagnose run_command", "numpy.core.records fromfile"),
        *("numpy ndarray.tofile", "numpy core.multiarray._reconstruct", "numpy.core.multiarray fromfile"),
        *("_codecs decode", "collections namedtuple", "pickle loads", "fastnn._weight_pickle _run"),
    ],
)
def test_names_are_not_looked_up(tmp_path, monkeypatch, name, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(global_pickle(name, protocol=protocol))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileFormatError, match="expected nothing but NumPy arrays") as info:
        load_arrays(path)
    one_line(info, name.replace(" ", "."))
    assert os.listdir(tmp_path) == ["a.pkl"]


@pytest.mark.parametrize(
    "value",
    [
        Calls(os.system, "touch executed"),
        Calls(eval, "open('executed', 'w')"),
        Calls(getattr, np.ndarray, "tofile"),
        Calls(getattr, Calls(getattr, os.getcwd, "__self__"), "system"),
        Calls(np.ndarray, (2,)),
        Calls(np.dtype, "O"),
        Calls(np.dtype, "f4", state={"x": 1}),
        Calls(OrderedDict, [("W", 1)]),
        Calls(np.zeros, 3),
        Calls(bytes, 2**40),
        Calls(np.fromfile, "a.pkl"),
    ],
    ids=lambda value: repr(value.parts)[:50],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_no_code_runs(tmp_path, monkeypatch, value, protocol):
    path = save_pickle(tmp_path / "a.pkl", {"W": value}, protocol)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileFormatError):
        load_arrays(path)
    assert os.listdir(tmp_path) == ["a.pkl"]


@pytest.mark.parametrize(
    "code",
    [
        b"cnumpy\ndtype\n(Vf4\ntR}Vvalue\nNsb.",  # BUILD with a dict would set attributes
        b"cnumpy\ndtype\n(N}Vvalue\nNstb.",  # BUILD on the global itself
        b"c_codecs\nencode\n(N}V__defaults__\nNstb.",
        b"cnumpy\nndarray\n(I3\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(Vx\n(I0\ntVb\ntR.",
        b"ccollections\nOrderedDict\n)\x81.",  # NEWOBJ
        b"(icollections\nOrderedDict\n.",  # INST
        b"(ccollections\nOrderedDict\no.",  # OBJ
        b"Vos\n.",
        b"\x82\x01.",  # EXT1
        b"Pid\n.",  # PERSID
        b"\x97.",  # NEXT_BUFFER
    ],
)
def test_odd_opcodes(tmp_path, code):
    (tmp_path / "a.pkl").write_bytes(code)
    before = dict(vars(builtins))
    with pytest.raises(FileFormatError) as info:
        load_arrays(tmp_path / "a.pkl")
    one_line(info, "a.pkl")
    assert dict(vars(builtins)) == before


def test_old_and_new_module_names(tmp_path):
    new = pickle.dumps({"W": PARAMS["W1"]}, protocol=2)
    assert b"numpy._core" in new or b"numpy.core" in new
    for name in (b"numpy.core", b"numpy._core"):
        path = tmp_path / "a.pkl"
        path.write_bytes(new.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", name))
        assert_array_equal(load_arrays(path)["W"], PARAMS["W1"])


def test_python_2_pickle(tmp_path):
    """As cPickle of Python 2 wrote protocol 2: data and names are byte strings, read as latin1."""
    data = np.array([1.5, -2.0, np.nan], "<f4").tobytes()
    code = (
        b"\x80\x02}q\x01U\x02W1q\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
        b"(K\x01K\x03\x85cnumpy\ndtype\nq\x06U\x02f4K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x0c" + data + b"tbs."
    )
    pickletools.dis(code, out=io.StringIO())
    (tmp_path / "a.pkl").write_bytes(code)
    assert_array_equal(load_arrays(tmp_path / "a.pkl")["W1"], np.array([1.5, -2, np.nan], "f4"), strict=True)
    for shape in (2, 4):
        (tmp_path / "a.pkl").write_bytes(code.replace(b"K\x03\x85", bytes([75, shape, 0x85])))
        with pytest.raises(FileFormatError, match=f"with 12 bytes, not {4 * shape}"):
            load_arrays(tmp_path / "a.pkl")


@pytest.mark.parametrize("axes", [(0, 2, 1), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("protocol", range(6))
def test_pickled_axes(tmp_path, axes, protocol):
    """NumPy 2.3 and later write an array of any memory order without a copy, with protocol 5."""
    a = np.arange(24.0).reshape(2, 3, 4).transpose(axes)
    assert_array_equal(load_arrays(save_pickle(tmp_path / "a.pkl", {"a": a}, protocol))["a"], a)


def test_containers_of_the_book(tmp_path):
    arrays = list(PARAMS.values())
    for value in (OrderedDict(PARAMS), PARAMS):
        assert list(load_arrays(save_pickle(tmp_path / "a.pkl", value))) == list(PARAMS)
    for value in (arrays, tuple(arrays), [np.float32(3)], [a.astype("f2").T for a in arrays]):
        loaded = load_arrays(save_pickle(tmp_path / "a.pkl", value))
        assert list(loaded) == [str(i) for i in range(len(value))]
        for got, want in zip(loaded.values(), value, strict=True):
            assert_array_equal(got, want)


# load_into


def live():
    return {"W1": np.zeros((3, 4), "float32"), "b1": np.zeros(4, "float32"), "n": np.zeros((), "int64")}


def test_load_into_keeps_the_arrays(tmp_path):
    save_arrays(tmp_path / "a.npz", PARAMS)
    params = live()
    kept = dict(params)
    load_into(params, tmp_path / "a.npz")
    for name, a in PARAMS.items():
        assert params[name] is kept[name]
        assert_array_equal(params[name], a.astype("float16") if a.dtype.kind == "f" else a)


@pytest.mark.parametrize("how", ["pickle", "savez"])
def test_load_into_by_position(tmp_path, how):
    params = live()
    if how == "pickle":
        path = save_pickle(tmp_path / "a.pkl", list(PARAMS.values()))
    else:
        path = tmp_path / "a.npz"
        np.savez(path, *PARAMS.values())
    load_into(params, path)
    assert_array_equal(params["b1"], PARAMS["b1"])
    save_pickle(tmp_path / "b.pkl", list(PARAMS.values())[:2])
    with pytest.raises(ValueError, match="expected 3 arrays, the file has 2"):
        load_into(params, tmp_path / "b.pkl")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"b1": np.ones(5)}, ["'b1'", "(4,)", "(5,)"]),
        ({"W1": np.ones((4, 3))}, ["'W1'", "(3, 4)", "(4, 3)"]),
        ({"b1": None}, ["expected 'b1'", "'W1'"]),
        ({"b2": np.ones(4)}, ["unexpected 'b2'"]),
        ({"n": np.array(0.5)}, ["'n'", "int64", "float64"]),
        ({"b1": np.array([0, 0, 0, 1e39])}, ["'b1'", "float32"]),
    ],
)
def test_load_into_all_or_nothing(tmp_path, change, parts):
    save_arrays(tmp_path / "a.npz", {k: v for k, v in {**PARAMS, **change}.items() if v is not None}, dtype=None)
    params = live()
    with pytest.raises(ValueError, match=r"a\.npz") as info:
        load_into(params, tmp_path / "a.npz")
    one_line(info, *parts)
    for a in params.values():
        assert not a.any()


def test_load_into_read_only(tmp_path):
    save_arrays(tmp_path / "a.npz", PARAMS)
    params = live()
    params["n"].flags.writeable = False
    with pytest.raises(ValueError, match="'n' must be writable"):
        load_into(params, tmp_path / "a.npz")
    assert not params["W1"].any()
