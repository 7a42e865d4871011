"""Run the validity suite in full, and beside its peers in quick form, and write what the package and the docs show.

    python benchmarks/validity.py

Writes mmbench/validity/scorecard.json and the part of docs/validity.md below its marker. About half an hour on two
free cores; peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmbench.validity import model, peers, run, scorecard
from mmbench.validity.instruments import installed

ROOT = Path(__file__).resolve().parents[1]
MARKER = "<!-- Below this line written by benchmarks/validity.py. -->"
QUICK_TESTS = [test for test in run.suite.TESTS if test.id not in ("V9", "V21", "V23")]
"""Beside peers without the tests that only the full suite has, or that weigh processes."""


def main() -> None:
    """Run both and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only-quick", action="store_true", help="all of ours in quick form too")
    given = parser.parse_args()
    own, profile = installed(), model.QUICK if given.only_quick else model.FULL
    results = run.run(own, profile, run.suite.TESTS, processes=given.processes)
    (ROOT / "mmbench" / "validity" / "scorecard.json").write_text(scorecard.as_json(results))
    beside = run.run([*own, *peers.installed()], model.QUICK, QUICK_TESTS, processes=given.processes)
    page = ROOT / "docs" / "validity.md"
    head = page.read_text(encoding="utf-8").partition(MARKER)[0]
    parts = [
        f"{head}{MARKER}\n\n## The tests\n\n| test | what is varied | what must hold |\n|---|---|---|",
        *(f"| {test.id} | {test.title} | {test.demands} |" for test in run.suite.TESTS),
        "",
        f"## Our metrics, {profile.name} suite\n",
        scorecard.as_markdown(results, run.suite.TESTS),
        "## Beside other packages, quick suite\n",
        scorecard.as_markdown(beside, QUICK_TESTS, failures=False),
    ]
    page.write_text("\n".join(parts), encoding="utf-8")
    for surprise in scorecard.surprises(results):
        print(surprise.sentence)


if __name__ == "__main__":
    main()
