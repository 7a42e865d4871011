"""Count the criteria of Raisa et al. 2025 that scores of fidelity and diversity hold, ours beside peers.

python benchmarks/peers/position_checks.py --metric table-coverage --metric image-coverage
"""

from __future__ import annotations

import argparse
import json

from mmbench.validity import model, peers, run
from mmbench.validity.instruments import installed


def main() -> None:
    """Print the counts as JSON, with the criteria that do not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metric", action="append", help="metric; by default all")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    instruments = installed(given.metric)
    if not given.no_peers:
        instruments.append(peers.peer("prdc"))
    results = run.run(instruments, model.FULL, run.tests_named(["V9"]), processes=given.processes)
    print(json.dumps({one.output: one.detail for one in results if one.passed is not None}, indent=1))


if __name__ == "__main__":
    main()
