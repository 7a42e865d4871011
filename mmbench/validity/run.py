"""Runs the suite: makes each trial once, reads every metric that a test asks about on it, judges the curves."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from threadpoolctl import threadpool_limits

from mmbench import plugins
from mmbench.errors import UsageError, did_you_mean
from mmbench.validity import suite
from mmbench.validity.instruments import Instrument, Reading, Trait, of_metric
from mmbench.validity.model import (
    PROFILES,
    Curve,
    Evidences,
    Profile,
    Series,
    Setting,
    Test,
    Verdict,
    domains_of,
)

_Key = tuple[str, Setting, int]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Result:
    """What a test says of one output of an instrument; ``passed`` is ``None`` where it does not apply."""

    metric: str
    output: str
    test: str
    passed: bool | None
    detail: str
    title: str = ""


def run(
    instruments: Sequence[Instrument],
    profile: Profile,
    tests: Sequence[Test] = suite.TESTS,
    *,
    processes: int = 1,
    files: Sequence[Path] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Result]:
    """Judge every output of every instrument by every test.

    Args:
        instruments: What is tested.
        profile: How much is spent.
        tests: Tests to run.
        processes: Worker processes. Only installed metrics can be tested in them: instruments travel by name.
            With one everything runs here, but for tests that weigh a process.
        files: Plug-in files that workers load.
        progress: Called with trials done and trials in all.
    """
    wanted = _wanted(instruments, profile, tests)
    series = catalogue(profile)
    readings: dict[tuple[str, _Key], dict[str, Reading]] = {}
    here = {instrument.name: instrument for instrument in instruments}
    if processes == 1:
        wanted = {key: names for key, names in wanted.items() if not series[key[0]].apart}
        # Trials are small: threads of one that wait for each other cost more than they give.
        with threadpool_limits(1):
            for done, (key, names) in enumerate(wanted.items(), 1):
                found = read(series[key[0]], key[1], key[2], [here[name] for name in names])
                readings |= {(name, key): values for name, values in found.items()}
                progress(done, len(wanted))
    else:
        for done, (key, found) in enumerate(_elsewhere(wanted, profile, processes, files), 1):
            readings |= {(name, key): values for name, values in found.items()}
            progress(done, len(wanted))
    return [result for instrument in instruments for result in judge(instrument, profile, tests, readings)]


def tests_named(names: Sequence[str] | None) -> list[Test]:
    """Return the tests of these names, in the suite's order; all of them by default.

    Raises:
        UsageError: There is no such test.
    """
    known = {test.id: test for test in suite.TESTS}
    for name in names or ():
        if name not in known:
            raise UsageError(f"there is no validity test '{name}'. {did_you_mean(name, known)}")
    return [test for test in suite.TESTS if not names or test.id in names]


@cache
def catalogue(profile: Profile) -> dict[str, Series]:
    """Return every series of the suite by its name."""
    return {
        series.name: series
        for test in suite.TESTS
        for domain in test.domains
        for series in test.series(profile, domain)
    }


def judge(
    instrument: Instrument,
    profile: Profile,
    tests: Sequence[Test],
    readings: Mapping[tuple[str, _Key], Mapping[str, Reading]],
) -> list[Result]:
    """Return the results of one instrument from the readings that were taken."""
    results = []
    for trait in instrument.traits:
        curves: dict[str, Curve] = {}
        for series in catalogue(profile).values():
            taken = {
                setting: [
                    readings[instrument.name, (series.name, setting, seed)][trait.output]
                    for seed in range(series.seeds)
                    if (instrument.name, (series.name, setting, seed)) in readings
                ]
                for setting in series.settings
            }
            if all(taken.values()):
                curves[series.name] = Curve(series.settings, taken)
        for test in tests:
            if not test.applies(trait):
                found = Verdict(None, f"asks nothing of {trait.type}")
            elif not set(test.domains) & set(domains_of(trait)):
                found = Verdict(None, "has no trials of that which it needs")
            else:
                found = test.judge(Evidences(trait, curves))
            results.append(
                Result(instrument.name, trait.output, test.id, found.passed, found.detail, test.title)
            )
    return results


def read(
    series: Series, setting: Setting, seed: int, instruments: Iterable[Instrument]
) -> dict[str, dict[str, Reading]]:
    """Return readings of instruments on one trial, by the instrument's name."""
    trial = None
    found = {}
    for instrument in instruments:
        if trial is None:
            trial = series.trial(setting, seed)
        elif series.alone:
            trial = dataclasses.replace(trial)
        found[instrument.name] = instrument.read(trial, f"{series.name}/{setting}/{seed}")
    return found


def _wanted(
    instruments: Sequence[Instrument], profile: Profile, tests: Sequence[Test]
) -> dict[_Key, list[str]]:
    """Return the trials that are needed, and the names of the instruments that read each."""
    wanted: dict[_Key, dict[str, None]] = defaultdict(dict)
    for instrument in instruments:
        for trait in instrument.traits:
            for series in _asked(trait, profile, tests):
                for key in series.points():
                    wanted[key][instrument.name] = None
    return {key: list(names) for key, names in wanted.items()}


def _asked(trait: Trait, profile: Profile, tests: Sequence[Test]) -> Iterable[Series]:
    """Return the series that tests need to judge an output."""
    return (
        series
        for test in tests
        if test.applies(trait)
        for domain in domains_of(trait)
        if domain in test.domains
        for series in test.series(profile, domain)
        if series.null in ("", trait.null)
    )


def _elsewhere(
    wanted: Mapping[_Key, list[str]], profile: Profile, processes: int, files: Sequence[Path]
) -> Iterable[tuple[_Key, dict[str, dict[str, Reading]]]]:
    # One thread each: two processes with two threads each on two cores only get in each other's way.
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        with ProcessPoolExecutor(processes, get_context("spawn"), _prepare, (list(files),)) as pool:
            jobs = [
                pool.submit(_read_named, profile.name, series, setting, seed, names)
                for (series, setting, seed), names in wanted.items()
            ]
            for job in as_completed(jobs):
                yield job.result()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _prepare(files: list[Path]) -> None:
    import warnings

    warnings.filterwarnings("ignore")
    for file in files:
        plugins.add_file(file)
    _files[:] = files


_files: list[Path] = []
"""Plug-in files that this worker has loaded, for processes of its own."""


def _read_named(
    profile: str, name: str, setting: Setting, seed: int, names: list[str]
) -> tuple[_Key, dict[str, dict[str, Reading]]]:
    series, key = catalogue(PROFILES[profile])[name], (name, setting, seed)
    if not series.apart:
        return key, read(series, setting, seed, [named(one, series.intervals) for one in names])
    files = list(_files)
    found = {}
    for one in names:
        with ProcessPoolExecutor(1, get_context("spawn"), _prepare, (files,)) as pool:
            found[one] = pool.submit(_read_weighed, profile, key, one).result()
    return key, found


def _read_weighed(profile: str, key: _Key, name: str) -> dict[str, Reading]:
    """Return readings with the memory that they added to this process, which does nothing else."""
    series, instrument = catalogue(PROFILES[profile])[key[0]], named(name, True)
    trial = series.trial(key[1], key[2])
    before = _peak_megabytes()
    found = instrument.read(trial)
    added = _peak_megabytes() - before
    return {output: dataclasses.replace(one, megabytes=added) for output, one in found.items()}


def _peak_megabytes() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kibibytes elsewhere.
    return float(peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024))


@cache
def named(name: str, intervals: bool) -> Instrument:
    """Return an installed metric or peer as an instrument.

    Args:
        name: Its name.
        intervals: Whether intervals matter.
    """
    from mmbench.validity import peers

    if name in peers.NAMES:
        return peers.peer(name)
    return of_metric(name, thrifty=not intervals)
