"""Run the validity suite in full, and beside its peers in quick form, and write what the package and the docs show.

    python benchmarks/validity.py                   # half an hour on two free cores, and a quarter beside the peers
    python benchmarks/validity.py --metric sinkhorn # one metric anew, in full; the others stay as they were found
    python benchmarks/validity.py --metric sinkhorn --part beside # the same in quick form

Writes mmbench/validity/scorecard.json, benchmarks/results/validity_beside.json, and the part of docs/validity.md below
its marker. Peers that are not installed are left out. Exit status 1 where a score fails without notice.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mmbench import plugins
from mmbench.validity import model, peers, run, scorecard
from mmbench.validity.instruments import installed
from mmbench.validity.run import Result

ROOT = Path(__file__).resolve().parents[1]
CARD = ROOT / "mmbench" / "validity" / "scorecard.json"
BESIDE = ROOT / "benchmarks" / "results" / "validity_beside.json"
PAGE = ROOT / "docs" / "validity.md"
MARKER = "<!-- Below this line written by benchmarks/validity.py. -->"
QUICK_TESTS = [test for test in run.suite.TESTS if test.id not in ("V9", "V21", "V23")]
"""Beside peers without the tests that only the full suite has, or that weigh processes."""


def main() -> int:
    """Run what is asked for and write everything."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--metric", action="append", default=[], help="only this one anew; may be repeated")
    parser.add_argument("--part", choices=("own", "beside", "none"), help="only this part anew")
    given = parser.parse_args()
    names = given.metric or plugins.names("metrics")
    own, beside = stored(CARD), stored(BESIDE)
    if given.part in (None, "own"):
        own = merged(own, run.run(installed(names), model.FULL, run.suite.TESTS, processes=given.processes))
        CARD.write_text(scorecard.as_json(own), encoding="utf-8")
    if given.part == "beside" or not (given.part or given.metric):
        instruments = [*installed(names), *([] if given.metric else peers.installed())]
        beside = merged(beside, run.run(instruments, model.QUICK, QUICK_TESTS, processes=given.processes))
        BESIDE.write_text(scorecard.as_json(beside), encoding="utf-8")
    head = PAGE.read_text(encoding="utf-8").partition(MARKER)[0]
    parts = [
        f"{head}{MARKER}\n\n## The tests\n\n| test | what is varied | what must hold |\n|---|---|---|",
        *(f"| {test.id} | {test.title} | {test.demands} |" for test in run.suite.TESTS),
        "",
        "## Our metrics, full suite\n",
        scorecard.as_markdown(own, run.suite.TESTS),
        "## Beside other packages, quick suite\n",
        scorecard.as_markdown(beside, QUICK_TESTS, failures=False),
    ]
    PAGE.write_text("\n".join(parts), encoding="utf-8")
    found = scorecard.surprises(own)
    for surprise in found:
        print(surprise.sentence)
    return int(bool(found))


def stored(file: Path) -> list[Result]:
    """Return the results that stand in a file; none where there is no file."""
    return [Result(**row) for row in json.loads(file.read_text(encoding="utf-8"))] if file.exists() else []


def merged(before: list[Result], after: list[Result]) -> list[Result]:
    """Return results by metric in alphabetical order, those found last; metrics that are gone are left out."""
    anew = {result.metric for result in after}
    there = {*plugins.names("metrics"), *(peer.name for peer in peers.installed())}
    kept = [one for one in before if one.metric not in anew and one.metric in there]
    return sorted([*kept, *after], key=lambda result: result.metric)


if __name__ == "__main__":
    sys.exit(main())
