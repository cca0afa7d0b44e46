"""bench/report.py on a recorded run."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import goals, report

RUN = Path(__file__).parent / "run.json"
ROOT = RUN.parent.parent.parent


@pytest.fixture
def run():
    return json.loads(RUN.read_text())


def saved(tmp_path, run, name="other.json"):
    path = tmp_path / name
    path.write_text(json.dumps(run))
    return path


def slowed(run, factor, which):
    """The same run with other times."""
    run = copy.deepcopy(run)
    for benchmark in run["benchmarks"]:
        if which(benchmark["extra_info"]["contestant"]):
            benchmark["extra_info"]["median"] *= factor
    return run


def rows(text, title):
    """The rows of the table under a title, as lists of cells."""
    lines = text.partition(f"### {title}")[2].partition("###")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_tables():
    text = "\n".join(report.tables(*report.load([RUN])))
    assert "Intel(R) Xeon(R) Processor, 2 threads; python 3.11.7" in text and "FMA peak " in text
    head, _, *figures = rows(text, "Figures")
    assert head == ["figure", "contestant", "against", "reached", "goal", ""]
    assert ["train: 784-50-10 relu, 100, float32", "fastnn, compiled", "NumPy", "2.21", "2.40", "missed"] in figures
    head, _, step = rows(text, "Training step, float32")
    assert step[0] == "784-50-10 relu, 100" and step[head.index("fastnn, compiled: times best peer")] == "2.21"
    head, _, *batches = rows(text, "One image at a time")
    assert head == ["contestant", "batch 1", "batch 10", "batch 100", "batch 1000", "last / first"]
    assert {row[0] for row in batches} == {"ONNX Runtime", "fastnn, compiled"}
    assert "Unsteady" in text and "The machine was busy" not in text


def test_what_is_missing_is_not_available(run):
    for benchmark in run["benchmarks"]:
        for key in ("times_best_peer", "best_peer"):
            benchmark["extra_info"].pop(key, None)
    records = [benchmark["extra_info"] for benchmark in run["benchmarks"]]
    records = [r for r in records if r["contestant"] != "NumPy"]
    records[0]["others"] = 0.8
    text = "\n".join(report.tables(records, run["machine_info"]))
    assert all(row[-1] == "n/a" for row in rows(text, "Figures")[2:])
    assert "**The machine was busy**" in text and "80% of a CPU" in text


def test_goals_against_one_peer_and_limits():
    book = {"kind": "op", "case": "a", "dtype": "float32", "contestant": "NumPy, book", "median": 3e-3}
    ours = book | {"contestant": "fastnn, layers", "median": 1e-3, "of_fma_peak": 0.8, "of_copy": 0.95}
    named = {goals.BEST: 2.0, "NumPy, book": 2.5, "PyTorch": 1.0, goals.PEAK: 0.85, goals.COPY: 0.9, goals.SECONDS: 1.0}
    found = {f.against: (f.reached, f.met) for f in goals.figures([book, ours | {"goals": named}])}
    assert found == {
        goals.BEST: (None, None), "NumPy, book": (3.0, True), "PyTorch": (None, None),
        goals.PEAK: (0.8, False), goals.COPY: (0.95, True), goals.SECONDS: (1e-3, True),
    }  # fmt: skip


def test_of_several_files_the_last_counts(run, tmp_path):
    run["machine_info"]["roofline"]["copy"] *= 2
    later = saved(tmp_path, slowed(run, 3, lambda contestant: True))
    records, machine = report.load([RUN, later])
    before, _ = report.load([RUN])
    assert [r["median"] for r in records] == pytest.approx([3 * r["median"] for r in before])
    assert machine["roofline"]["copy"] == run["machine_info"]["roofline"]["copy"]


@pytest.mark.parametrize(
    "factor, which, slower",
    [
        (1.0, lambda contestant: True, False),
        (1.3, report.is_ours, True),
        (1.3, lambda contestant: True, False),  # the whole machine was slower
        (1 / 1.3, lambda contestant: not report.is_ours(contestant), True),
        (0.5, report.is_ours, False),
        (1.04, report.is_ours, False),
    ],
)
def test_comparison(run, tmp_path, capsys, factor, which, slower):
    new = saved(tmp_path, slowed(run, factor, which))
    code = report.main([str(new), "--against", str(RUN), "--fail-if-slower", "5%"])
    assert code == int(slower), capsys.readouterr().out
    assert report.main([str(new), "--against", str(RUN)]) == 0


def test_plots(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert report.main([str(RUN), "--plots", str(tmp_path / "plots")]) == 0
    pictures = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert pictures == ["bench-batches.png", "bench-roofline.png", "bench-speedups.png"]
    assert all((tmp_path / "plots" / name).stat().st_size > 10_000 for name in pictures)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nix.json"], "nix.json: No such file or directory"),
        ([__file__], "not a file of pytest --benchmark-only --benchmark-json"),
        ([str(RUN), "--fail-if-slower", "5%"], "--fail-if-slower needs --against"),
        ([str(RUN), "--against", str(RUN), "--fail-if-slower", "much"], "expected a share such as 5%, got 'much'"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        report.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_runs_as_a_file():
    command = [sys.executable, "bench/report.py", str(RUN)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "### Figures" in done.stdout
