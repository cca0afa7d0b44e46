"""New processes: an import takes less than 0.6 s and compiles nothing; the demo compiles nothing when it runs again.

python -m tests.stress.startup [--imports 15]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

LIMIT = 0.6  # seconds
DEMO = (["train", "spiral"], ["train", "digits"])  # as in the Makefile
COUNTING = """
import sys
import numba.core.event
with numba.core.event.install_recorder("numba:compile") as compilations:
    {body}
print(len(compilations.buffer), file=sys.stderr)
"""


def run(code, folder):
    env = {**os.environ, "PYTHONPATH": os.getcwd(), "FASTNN_CACHE_DIR": folder, "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stderr


def compilations(body, folder):
    return int(run(COUNTING.format(body=body), folder).split()[-1]) // 2  # a beginning and an end each


def seconds(code, folder):
    start = time.perf_counter()
    run(code, folder)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imports", type=int, default=15)
    imports = parser.parse_args().imports
    with tempfile.TemporaryDirectory() as folder:
        took = statistics.median(seconds("import fastnn, fastnn.layers, fastnn.models", folder) for _ in range(imports))
        at_import = compilations("import fastnn, fastnn.layers, fastnn.models, fastnn.kernels.cpu", folder)
        print(f"import: {took:.2f} s with Python's own start, {at_import} compilations")
        counts = []
        for _ in range(2):
            counts.append([compilations(f"import fastnn.cli; fastnn.cli.main({args})", folder) for args in DEMO])
            print(f"demo: {counts[-1]} compilations")
    return int(took >= LIMIT or at_import > 0 or sum(counts[0]) == 0 or sum(counts[1]) > 0)


if __name__ == "__main__":
    sys.exit(main())
