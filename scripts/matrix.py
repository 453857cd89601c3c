"""The support matrix: convert every case of ``tests/converters/matrix``, and judge what is delivered.

``python scripts/matrix.py`` runs all cases; ``--only NAME...`` and ``--family NAME...`` choose, ``--sample`` takes
the fast sample that the tests check. ``--write`` writes ``docs/reference/converters.md``. Each case is converted
with no options, as a user would, and compared with the original by code that shares nothing with ``converters``.
Exit code 1 when something is delivered that does not match.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "converters.md"
SECONDS = 900
sys.path.insert(0, str(ROOT))


def main() -> int:
    """Run the chosen cases."""
    arguments = _arguments()
    if arguments.worker:
        return _work(arguments)
    from tests.converters.matrix import cases

    folder = (arguments.results or Path(tempfile.gettempdir()) / "edgepack-matrix").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    foreign = (
        [] if arguments.sample or arguments.in_process else [name for name in cases.FOREIGN if _wanted(arguments, name)]
    )
    for name in foreign:
        cases.make_foreign(name, folder, lambda line: print(line, file=sys.stderr))
    names = cases.SAMPLE if arguments.sample else cases.names(folder, arguments.family)
    if arguments.only:
        names = [name for name in cases.names(folder, None) if name in arguments.only]
        unknown = sorted(set(arguments.only) - set(names))
        if unknown:
            print(f"unknown cases: {', '.join(unknown)}", file=sys.stderr)
            return 2
    results = _run(names, folder, arguments)
    _save(folder, results)
    from tests.converters.matrix import page

    print(page.summary(results))
    absent = [family for family in cases.FOREIGN if not any(result["family"] == family for result in results)]
    if arguments.write and absent:
        print(f"the page is not written: models are missing of {', '.join(absent)}", file=sys.stderr)
        return 1
    if arguments.write:
        PAGE.write_text(page.page(results))
    return 1 if any(result["status"] == "wrong" for result in results) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only the cases of these names")
    parser.add_argument("--family", nargs="+", metavar="NAME", help="only the cases of these families")
    parser.add_argument("--sample", action="store_true", help="only the fast sample")
    parser.add_argument("--write", action="store_true", help="write the page from the results of this run")
    parser.add_argument("--resume", action="store_true", help="keep the results of an earlier run")
    parser.add_argument("--in-process", action="store_true", help="scikit-learn without the sandbox, for quick trials")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="cases at a time (2)")
    parser.add_argument("--results", type=Path, metavar="DIR", help="folder of models and results")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write and (arguments.only or arguments.family or arguments.sample or arguments.in_process):
        parser.error("the page is written from a run over all cases, in the sandbox")
    return arguments


def _wanted(arguments: argparse.Namespace, family: str) -> bool:
    return not arguments.only and (arguments.family is None or family in arguments.family)


def _run(names: list[str], folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The results in the order of the names; each process of ``--processes`` takes one case after the other."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    results: dict[str, dict[str, Any]] = {}
    earlier = folder / "results.json"
    if arguments.resume and earlier.is_file():
        known = {result["name"]: result for result in json.loads(earlier.read_text())}
        results = {name: known[name] for name in names if name in known}
    todo = [name for name in names if name not in results]
    for name in todo:
        waiting.put(name)
    saving = threading.Lock()
    threads = [
        threading.Thread(target=_drive, args=(waiting, results, folder, arguments, len(names), saving))
        for _ in range(max(1, min(arguments.processes, len(todo))))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[name] for name in names]


def _drive(
    waiting: queue.SimpleQueue[str],
    results: dict[str, dict[str, Any]],
    folder: Path,
    arguments: argparse.Namespace,
    total: int,
    saving: threading.Lock,
) -> None:
    """Feed one worker process after the other: one that crashes loses only its case."""
    command = [sys.executable, __file__, "--worker", "--results", str(folder)]
    command += ["--in-process"] if arguments.in_process else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    worker: subprocess.Popen[str] | None = None
    while True:
        try:
            name = waiting.get_nowait()
        except queue.Empty:
            break
        if worker is None or worker.poll() is not None:
            worker = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        line = _ask(worker, name)
        if not line:
            worker.wait()
        with saving:
            result = results[name] = json.loads(line) if line else _died(name, folder)
            _save(folder, list(results.values()))
        said = result.get("reason") or "; ".join(result.get("problems", ())) or f"{result.get('max_rel', 0):.1g}"
        print(f"{len(results)}/{total} {result['status']:8} {name}: {said}", file=sys.stderr)
    if worker is not None:
        worker.communicate(timeout=60)


def _died(name: str, folder: Path) -> dict[str, Any]:
    from tests.converters.matrix import cases

    case = cases.find(name, folder)
    entry = {"name": name, "family": case.family, "estimator": case.estimator, "kind": case.kind}
    return {**entry, "status": "failed", "reason": "the process died or hung"}


def _save(folder: Path, results: list[dict[str, Any]]) -> None:
    """Save the results for ``--resume``."""
    (folder / "results.json").write_text(json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False))


def _ask(worker: subprocess.Popen[str], name: str) -> str:
    """One line of answer; empty when the worker has crashed."""
    if worker.stdin is None or worker.stdout is None:
        raise RuntimeError("the worker has no pipes")
    guard = threading.Timer(SECONDS, worker.kill)  # the worker's own limit cannot end native code
    guard.start()
    try:
        worker.stdin.write(name + "\n")
        worker.stdin.flush()
        return worker.stdout.readline()
    except BrokenPipeError:
        return ""
    finally:
        guard.cancel()


def _work(arguments: argparse.Namespace) -> int:
    """Answer names on stdin by results on stdout, one line each."""
    from tests.converters.matrix import run

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # frameworks may print to stdout
    for line in sys.stdin:
        result = run.run(line.strip(), arguments.results, in_process=arguments.in_process)
        answers.write(json.dumps(result) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
