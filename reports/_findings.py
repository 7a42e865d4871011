"""What stands out in a run, in words, from its scores alone: no rule knows a generator by its name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmbench.api import Run

from ._coherence import Judged, verdict_text
from ._format import enumerated, number, plural, scaled_text, status_text
from ._records import REAL_NAME
from ._scores import Board, Entry

NEAR = 0.1
"""Difference of scaled scores within which a generator counts as near an anchor."""
AT = 0.05
"""Difference within which it counts as being there: at the null of one score at least, it copies."""


@dataclass(frozen=True)
class Finding:
    """One thing that stands out.

    Attributes:
        title: A word or two.
        text: Sentences.
        alarm: Whether a reader must not overlook it.
    """

    title: str
    text: str
    alarm: bool = False


def findings(
    run: Run,
    boards: Sequence[Board],
    copying: set[str],
    unmeasurable: Sequence[Mapping[str, Any]],
    judged: Sequence[Judged] = (),
) -> list[Finding]:
    """Return what stands out in a run, what must not be overlooked first.

    Args:
        run: The run.
        boards: Its leaderboards.
        copying: Generators that declare their samples to be training records; none of them is named as the best.
        unmeasurable: Volumes that could not be measured, by group.
        judged: Verdicts on coherence.
    """
    kinds = {board.kind: board for board in boards}
    found = [Finding("Copies", text, alarm=True) for text in copied(boards)]
    if any(not one.real for one in judged):
        found.append(Finding("Coherence", verdict_text(judged)))
    elif "coherence" in kinds:
        found.append(Finding("Coherence", _better_than_broken(kinds["coherence"])))
    for kind in ("fidelity", "diversity", "plausibility"):
        if kind in kinds:
            found.append(Finding(kind.capitalize(), _closest(kinds[kind], copying)))
    if "utility" in kinds:
        found.append(Finding("Utility", _closest(kinds["utility"], copying)))
    if "privacy" in kinds:
        found.append(Finding("Privacy", _near_training(kinds["privacy"])))
    found += [Finding("Not measurable", text) for text in _lost(unmeasurable)]
    found += [Finding("Failed", text, alarm=True) for text in _failed(run)]
    return found


def copied(boards: Sequence[Board]) -> list[str]:
    """Return a sentence or two on each generator whose records the privacy scores show to be training records.

    A privacy score exposes a generator where it is near the null, which is what copied training records score,
    and where in every fit and draw its 95 % interval reaches the null and lies on the bad side of the ceiling,
    which is what unseen real subjects score; one score at least must be no further from the null than draws of
    copies are from each other. Where fewer than half of its privacy scores do, only a part of the
    records, or one modality, may be copied. Beside it stands how the generator looks on fidelity: copies look as
    good as real subjects.
    """
    privacy = [board for board in boards if board.kind == "privacy"]
    fidelity = [board for board in boards if board.kind == "fidelity"]
    sentences = []
    for generator in dict.fromkeys(name for board in privacy for name in board.generators):
        tested = _scaled_entries(privacy, generator)
        exposed = [
            (output, e) for output, e in tested if e.at_null == e.scored == e.below and e.scaled <= NEAR
        ]
        if min((e.scaled for _, e in exposed), default=math.inf) > AT:
            continue
        proof = enumerated(
            f"{output['title']} ({number(e.value)}; copies score {number(e.anchors.null)}, unseen real subjects "
            f"{number(e.anchors.ceiling)})"
            for output, e in exposed
        )
        looks = _looks(_scaled_entries(fidelity, generator))
        verdict = "its records are copies of training records"
        if 2 * len(exposed) < len(tested):
            rest = f"the other {plural(len(tested) - len(exposed), 'privacy score')} do not agree"
            verdict = f"a part of its records, or one modality, may be copies of training records; {rest}"
        sentences.append(f"{generator} {looks}is exposed by {proof}: {verdict}.")
    return sentences


def _looks(fidelity: Sequence[tuple[Mapping[str, Any], Entry]]) -> str:
    near = [e for _, e in fidelity if e.below < e.scored or e.scaled >= 1 - NEAR]
    if not fidelity or 2 * len(near) < len(fidelity):
        return ""
    mean = sum(min(e.scaled, 1.0) for _, e in fidelity) / len(fidelity)
    return (
        f"looks as good as real subjects on fidelity ({len(near)} of {plural(len(fidelity), 'score')} at or near "
        f"the ceiling, mean scaled score {scaled_text(mean)}) and "
    )


def _scaled_entries(boards: Sequence[Board], generator: str) -> list[tuple[Mapping[str, Any], Entry]]:
    """Return a generator's entries in scores that tell real from destroyed."""
    found = [
        (output, board.entries[generator, output["name"]]) for board in boards for output in board.outputs
    ]
    return [(output, entry) for output, entry in found if entry.ok and math.isfinite(entry.scaled)]


def _better_than_broken(board: Board) -> str:
    """Say on how many scores each generator's pairs are better than broken ones, in every fit and draw.

    For runs without a verdict.
    """
    standing: dict[tuple[int, int], list[str]] = {}
    for generator in board.generators:
        entries = [e for _, e in _scaled_entries([board], generator) if math.isfinite(e.low)]
        if entries:
            clear = sum(e.clear == e.scored for e in entries)
            standing.setdefault((clear, len(entries)), []).append(generator)
    if not standing:
        return "No generator has a coherence score that tells real pairs from broken ones."
    sentences = []
    for (clear, total), names in sorted(standing.items(), key=lambda group: -group[0][0] / group[0][1]):
        who = enumerated(names)
        if clear == total:
            sentences.append(f"{who}: better than broken pairs on every score ({total})")
        elif clear:
            sentences.append(f"{who}: better than broken pairs on {clear} of {plural(total, 'score')}")
        else:
            sentences.append(
                f"{who}: no better than broken pairs on any of {plural(total, 'score')}; volume and row do not "
                "belong together"
            )
    return f"{'; '.join(sentences)}. Better means that the 95 % interval lies beyond the null in every fit and draw."


def _near_training(board: Board) -> str:
    worse = []
    any_interval = False
    for generator in board.generators:
        entries = [
            (output["title"], board.entries[generator, output["name"]])
            for output in board.outputs
            if math.isfinite(board.entries[generator, output["name"]].low)
        ]
        any_interval |= bool(entries)
        titles = [title for title, entry in entries if entry.below == entry.scored]
        if titles:
            worse.append(f"{generator} ({enumerated(titles)})")
    if not any_interval:
        return "No generator has a score with an interval."
    if not worse:
        return "No generator's 95 % interval is worse, in every fit and draw, than what unseen real subjects score."
    return (
        "The 95 % interval is worse than what unseen real subjects score, in every fit and draw, for "
        f"{'; '.join(worse)}."
    )


def _closest(board: Board, copying: set[str]) -> str:
    standing = {g: board.mean_scaled(g) for g in board.generators}
    candidates = {g: (mean, n) for g, (mean, n) in standing.items() if n and g not in copying}
    if not candidates:
        return "No generator that makes new records has a scaled score."
    total = len(board.outputs)
    # Means over unlike sets of scores cannot be ranked: the best is named for each number of scores apart.
    sentences: list[str] = []
    for size in sorted({n for _, n in candidates.values()}, reverse=True):
        peers = {g: mean for g, (mean, n) in candidates.items() if n == size}
        best = max(peers, key=lambda g: peers[g])
        fewer = "of those with fewer scores, " if sentences else ""
        sentences.append(
            f"{fewer}{best} (mean scaled score {scaled_text(peers[best])} over {size} of {plural(total, 'score')})"
        )
    return f"Nearest to fresh real subjects, copies of training records aside: {'; '.join(sentences)}."


def _lost(unmeasurable: Sequence[Mapping[str, Any]]) -> list[str]:
    told = [f"{row['name']} {row['n']} of {row['total']}" for row in unmeasurable]
    if not told:
        return []
    real = (
        "" if any(row["name"] == REAL_NAME for row in unmeasurable) else " All real ones could be measured."
    )
    return [f"Volumes on which nothing could be measured: {', '.join(told)}.{real}"]


def _failed(run: Run) -> list[str]:
    ended: dict[tuple[str, str, str], int] = {}
    for cell in run.cells:
        record = run.status(cell["id"])
        if record["status"] != "ok":
            key = (cell["generator"], record["status"], record.get("reason") or "no reason was recorded")
            ended[key] = ended.get(key, 0) + 1
    return [
        f"{generator}: {plural(count, 'fit')} {status_text(status)} ({reason})."
        for (generator, status, reason), count in ended.items()
    ]
