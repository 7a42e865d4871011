"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmbench.errors import Interrupted, MmbenchError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from mmbench.cohort import Cohort
    from mmbench.config import Config
    from mmbench.store import Run

FAILED, USAGE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    help="Evaluate generators that synthesise MRI volumes together with clinical tables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cohort_app = typer.Typer(help="Make, inspect and validate cohorts.", no_args_is_help=True)
app.add_typer(cohort_app, name="cohort")

PluginFiles = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="Python file with plug-ins of your own; it is run.", metavar="FILE"),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a value, e.g. generators.joint-ldm.steps=200.", metavar="KEY=VALUE"),
]
_debug = False


def main() -> None:
    """Run the command line; mmbench's own errors become one message and an exit status."""
    try:
        app()
    except Interrupted as error:
        _stop(error, INTERRUPTED)
    except KeyboardInterrupt:
        _stop("interrupted", INTERRUPTED)
    except UsageError as error:
        _stop(error, USAGE)
    except MmbenchError as error:
        _stop(error, FAILED)


def _stop(error: object, status: int) -> None:
    if _debug and isinstance(error, BaseException):
        raise error
    for line in str(error).splitlines():
        print(f"mmbench: {line}", file=sys.stderr)
    sys.exit(status)


def _version(wanted: bool) -> None:
    if wanted:
        from mmbench import __version__

        print(f"mmbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback for every error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    global _debug  # noqa: PLW0603  # the error handler in main() runs outside typer's context
    _debug = debug


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Argument(help="YAML configuration; the demonstration where absent.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/NAME.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run.", metavar="RUN")] = None,
    settings: Settings = None,
    plugin: PluginFiles = None,
    generator: Annotated[
        list[str] | None, typer.Option(help="Add a generator to the configuration.", metavar="NAME")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Fit, sample and score generators on a cohort, and write a report."""
    if resume is not None and (config or out or settings or generator or dry_run):
        raise UsageError("--resume takes the run's own configuration; only --plugin may stand beside it.")
    files = [path.resolve() for path in plugin or []]
    _add_plugins(files)
    if resume is not None:
        from mmbench.store import Run

        _check_plugins(resume)
        _work(Run.open(resume), files)
        return
    chosen = _config(config, settings or [], generator or [])
    if dry_run:
        _print_plan(chosen)
    else:
        _work(_created(chosen, out), files)


@app.command()
def evaluate(
    real: Annotated[
        Path, typer.Option(help="Real records: saved cohort, BIDS folder, or table.", metavar="PATH")
    ],
    synthetic: Annotated[
        list[str],
        typer.Option(help="Samples, as for --real; may be repeated.", metavar="[NAME=]PATH"),
    ],
    train: Annotated[
        Path | None,
        typer.Option(
            help="Records that the generators learned from; else a share of --real.", metavar="PATH"
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML configuration for all else; its generators are left aside.", metavar="FILE"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/NAME.")] = None,
    settings: Settings = None,
    plugin: PluginFiles = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan and stop.")
    ] = False,
) -> None:
    """Score samples that exist already, without fitting anything, and write a report."""
    files = [path.resolve() for path in plugin or []]
    _add_plugins(files)
    from mmbench.evaluation import UNKNOWN_TRAINING, evaluation_config

    text = "" if config is None else _text(config)
    chosen = evaluation_config(
        real, synthetic, train, text, str(config or "mmbench evaluate"), settings or []
    )
    if dry_run:
        _print_plan(chosen)
        return
    current = _created(chosen, out)
    if chosen.training is None:
        _console().print(f"note: {UNKNOWN_TRAINING}", markup=False, highlight=False)
    _work(current, files)


def _print_plan(config: Config) -> None:
    import tempfile

    from mmbench.display import make_display
    from mmbench.inputs import load_inputs
    from mmbench.plan import make_plan
    from mmbench.printing import print_plan

    with tempfile.TemporaryDirectory(prefix=".mmbench-") as scratch:
        with make_display(_console()) as display:
            inputs = load_inputs(config, Path(scratch), display)
        print_plan(
            _console(stderr=False),
            make_plan(config, inputs.cohort, inputs.samples, inputs.roles),
            Path("runs"),
        )


def _created(config: Config, out: Path | None) -> Run:
    from mmbench import runner
    from mmbench.display import make_display

    with make_display(_console()) as display:
        return runner.create(config, out or _free_folder(Path("runs") / config.name), display)


def _work(current: Run, files: list[Path]) -> None:
    """Do what is left of a run, write its reports, and print how it ended; exit status 1 where a cell failed."""
    from mmbench import runner
    from mmbench.display import make_display
    from mmbench.printing import print_scores

    console = _console()
    console.print(f"run: {current.folder}", markup=False, highlight=False)
    with make_display(console) as display:
        scores = runner.execute(current, display, files)
        formats = current.info["config"]["report"]["formats"]
        written = runner.write_reports([current], formats, current.folder / "report")
    print_scores(console, scores)
    lost = [
        cell["id"]
        for cell in current.cells
        if current.status(cell["id"])["status"] not in ("ok", "not_applicable")
    ]
    if lost:
        console.print(f"cells that failed: {', '.join(lost)}", markup=False, highlight=False)
    for path in written:
        console.print(f"report: {path}", markup=False, highlight=False, soft_wrap=True)
    if lost:
        raise typer.Exit(FAILED)


@app.command()
def sample(
    model: Annotated[
        Path,
        typer.Argument(help="A run, or the folder of a fitted model: RUN/cells/CELL/model.", metavar="MODEL"),
    ],
    records: Annotated[int, typer.Option("-n", "--records", help="Number of records.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist, or be empty.")],
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    given: Annotated[
        list[str] | None,
        typer.Option(help="What every record has, e.g. sex=F; may be repeated.", metavar="COLUMN=VALUE"),
    ] = None,
    generator: Annotated[
        str | None, typer.Option(help="Which of a run's generators, where it has several.", metavar="NAME")
    ] = None,
    fit_seed: Annotated[
        int | None, typer.Option(help="Which of a run's fits of the generator; by default the first.")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Sample a fitted generator and write a BIDS-like cohort, to be read with `source: bids`."""
    import signal

    _add_plugins(plugin or [])
    from mmbench.display import make_display
    from mmbench.model import open_model
    from mmbench.sample import sample as write_sample

    # As Ctrl-C does, so that nothing half-written is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    fitted = open_model(model, generator, fit_seed)
    with make_display(_console()) as display:
        write_sample(fitted, records, seed, given or [], out, display)
    print(f"cohort: {out}, {records} records of {fitted.cell.generator}, fit seed {fitted.cell.fit_seed}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Finished runs.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; by default RUN/report, or report for several.")
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="Report plug-in; may be repeated.", metavar="NAME")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Write the report of one run anew, or one report over several."""
    _add_plugins(plugin or [])
    from mmbench import runner
    from mmbench.store import Run

    opened = [Run.open(path) for path in runs]
    folder = out or (opened[0].folder / "report" if len(opened) == 1 else Path("report"))
    chosen = formats or opened[0].info["config"]["report"]["formats"]
    for path in runner.write_reports(opened, chosen, folder):
        print(f"report: {path}")


@app.command("list")
def list_plugins(
    kind: Annotated[
        str | None, typer.Argument(help="cohorts, generators, measurers, metrics or reports.")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """List the installed plug-ins."""
    _add_plugins(plugin or [])
    from rich.table import Table

    from mmbench import plugins
    from mmbench.errors import PluginError, did_you_mean

    if kind is not None and kind not in plugins.KINDS:
        raise UsageError(f"there is no kind '{kind}'. {did_you_mean(kind, plugins.KINDS)}")
    table = Table(box=None)
    for heading in ("kind", "name", "what it is", "licence", "from"):
        table.add_column(heading)
    for one in [kind] if kind else plugins.KINDS:
        for name in plugins.names(one):
            try:
                found = plugins.load(one, name)
                what, summary, licence = plugins.role(one, found), found.card.summary, found.card.licence
            except PluginError as error:
                what, summary, licence = one[:-1], f"broken: {error}", ""
            table.add_row(what, name, summary, licence, plugins.origin(one, name))
    _console(stderr=False).print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of a plug-in.")], plugin: PluginFiles = None) -> None:
    """Show a plug-in: what it is, what it can do, its parameters."""
    _add_plugins(plugin or [])
    import inspect

    from rich.table import Table

    from mmbench import plugins
    from mmbench.errors import did_you_mean
    from mmbench.printing import facts

    kinds = [kind for kind in plugins.KINDS if name in plugins.names(kind)]
    if not kinds:
        known = {other for kind in plugins.KINDS for other in plugins.names(kind)}
        raise UsageError(f"there is no plug-in '{name}'. {did_you_mean(name, known)}")
    console = _console(stderr=False)
    for kind in kinds:
        found = plugins.load(kind, name)
        card = found.card
        console.print(f"{name} ({plugins.role(kind, found)}): {card.summary}", markup=False, highlight=False)
        console.print(inspect.cleandoc(found.__doc__ or ""), markup=False, highlight=False)
        shown = {"reference": card.reference, "licence": card.licence, "from": plugins.origin(kind, name)}
        shown |= {"requires": ", ".join(card.requires)} | facts(found)
        for label, value in shown.items():
            if value != "":
                console.print(f"  {label}: {value}", markup=False, highlight=False)
        table = Table(box=None)
        for heading in ("parameter", "type", "default", "meaning"):
            table.add_column(heading)
        rows = plugins.parameters(found)
        for row in rows:
            table.add_row(row.name, row.type, row.default, row.doc)
        console.print(table if rows else "  no parameters")


@app.command()
def validity(
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric to test; may be repeated. By default all.", metavar="NAME"),
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="Test to run, e.g. V4; may be repeated.", metavar="TEST")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for scorecard.json and scorecard.md.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer seeds, sizes and dimensions.")] = False,
    peers: Annotated[bool, typer.Option(help="Also test the peers that are installed.")] = False,
    processes: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 2,
    plugin: PluginFiles = None,
) -> None:
    """Test metrics on data of which the truth is known; exit status 1 where one fails without notice."""
    files = [path.resolve() for path in plugin or []]
    _add_plugins(files)
    from mmbench.display import make_display
    from mmbench.validity import model, run, scorecard
    from mmbench.validity import peers as others
    from mmbench.validity.instruments import installed

    tests, instruments = run.tests_named(test), installed(metric)
    if peers:
        instruments += others.installed()
    task = "validity tests"
    with make_display(_console()) as display:
        display.begin(task)
        results = run.run(
            instruments,
            model.QUICK if quick else model.FULL,
            tests,
            processes=processes,
            files=files,
            progress=lambda done, total: display.progress(task, "trials", done, total),
        )
        display.end(task, "done")
    _console(stderr=False).print(scorecard.as_table(results, tests))
    if out is not None:
        print(f"scorecard: {scorecard.write(results, tests, out)}")
    found = scorecard.surprises([result for result in results if result.metric not in others.NAMES])
    for surprise in found:
        print(surprise.sentence)
    if any(surprise.failed for surprise in found):
        raise typer.Exit(FAILED)


@cohort_app.command("make")
def cohort_make(
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist.")],
    source: Annotated[str, typer.Option(help="Cohort source.")] = "phantom",
    subjects: Annotated[int | None, typer.Option(help="Number of subjects, for the phantom.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Population, for the phantom: nako, ukb or nhanes.")
    ] = None,
    voxel: Annotated[
        float | None, typer.Option(help="Voxel spacing in plane, for the phantom.", metavar="MM")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of population and scans, for the phantom.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Parameter of the source.", metavar="KEY=VALUE")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Make a cohort and keep it in a folder, to be read with `source: saved`."""
    _add_plugins(plugin or [])
    from mmbench.cohort import save_cohort
    from mmbench.files import read_json

    if out.exists():
        raise UsageError(f"{out}: exists already.")
    section = _with_settings({"source": source}, settings or [])
    given = {"subjects": subjects, "preset": preset, "voxel": voxel, "seed": seed}
    section |= {name: value for name, value in given.items() if value is not None}
    # Beside the cohort, so that volumes which the source writes there need only a second name to be kept.
    beside = next(folder for folder in out.absolute().parents if folder.is_dir())
    with _loaded_cohort(section, beside) as cohort:
        save_cohort(cohort, out)
    print(
        f"cohort: {out}, {len(cohort)} records, fingerprint {read_json(out / 'cohort.json')['fingerprint']}"
    )


@cohort_app.command("inspect")
def cohort_inspect(
    path: Annotated[Path, typer.Argument(help="Saved cohort, BIDS folder, or table with volume paths.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Parameter of the source.", metavar="KEY=VALUE")
    ] = None,
    montage: Annotated[Path | None, typer.Option(help="Also write a picture of mid-slices here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what is in a cohort."""
    from mmbench.context import WorkContext
    from mmbench.display import make_display
    from mmbench.inputs import section_of
    from mmbench.inspection import describe
    from mmbench.montage import montage as draw
    from mmbench.printing import print_card
    from mmbench.sources.saved import check_fingerprint, checked_volumes

    section, task = section_of(path), f"inspecting {path}"
    # The volumes of a saved cohort are read here anyway: they are checked on the way, not twice.
    unread = {"verify": False} if section["source"] == "saved" else {}
    with _loaded_cohort(_with_settings(section | unread, settings or [])) as cohort:
        with make_display(_console()) as display:
            display.begin(task)
            context = WorkContext(report=lambda *step: display.progress(task, *step))
            card = describe(cohort, checked_volumes(cohort, path, context) if unread else None)
            display.end(task, "done")
        if unread:
            check_fingerprint(path, card.fingerprint)
        if montage is not None:
            draw(cohort, montage)
    if as_json:
        import json

        print(json.dumps(card.to_dict(), indent=1))
    else:
        print_card(_console(stderr=False), card)


@cohort_app.command("validate")
def cohort_validate(
    path: Annotated[Path, typer.Argument(help="Saved cohort, BIDS folder, or table with volume paths.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Parameter of the source.", metavar="KEY=VALUE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a cohort and list every problem; exit status 2 where there is one."""
    from mmbench.errors import CohortError
    from mmbench.inputs import section_of

    records, left_out, problems, warnings = 0, {}, [], []
    try:
        with _loaded_cohort(_with_settings(section_of(path), settings or [])) as cohort:
            records, left_out, warnings = len(cohort), dict(cohort.left_out), list(cohort.warnings)
    except CohortError as error:
        problems, warnings = error.problems, list(getattr(error, "__notes__", []))
    if as_json:
        import json

        found = {"records": records, "problems": problems, "warnings": warnings, "left_out": left_out}
        print(json.dumps({"path": str(path), **found}, indent=1))
    else:
        lines = [f"left out: {name}: {reason}" for name, reason in left_out.items()]
        for line in [*lines, *(f"warning: {warning}" for warning in warnings), *problems]:
            print(line)
        if not problems:
            print(
                f"{path}: {records} records, {len(left_out)} left out, {len(warnings)} warnings, no problem found"
            )
    if problems:
        raise UsageError(f"{path}: problems found: {len(problems)}; warnings: {len(warnings)}")


def _with_settings(section: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    from mmbench.config import apply_override

    for setting in settings:
        apply_override(section, setting)
    return section


@contextmanager
def _loaded_cohort(section: dict[str, Any], beside: Path | None = None) -> Iterator[Cohort]:
    """Give the cohort of a configuration's section; its scratch files live, in ``beside``, as long as the block."""
    import tempfile

    from mmbench.display import make_display
    from mmbench.inputs import load_with_progress

    with tempfile.TemporaryDirectory(prefix=".mmbench-", dir=beside) as scratch:
        with make_display(_console()) as display:
            cohort = load_with_progress(section, Path(scratch), display)
        yield cohort


def _add_plugins(files: list[Path]) -> None:
    if files:
        from mmbench import plugins

        for path in files:
            plugins.add_file(path)


def _check_plugins(folder: Path) -> None:
    """Refuse to resume with a plug-in missing; a run's own files never name code to run."""
    from mmbench import plugins
    from mmbench.store import Run

    plan = Run.open(folder).info["plan"]
    wanted = [("generators", cell["plugin"]) for cell in plan["cells"] if cell["plugin"]]
    wanted += [("metrics", metric["name"]) for metric in plan["metrics"]]
    wanted += [("measurers", plan[role]["name"]) for role in ("measurer", "extractor") if plan[role]]
    for kind, name in wanted:
        if name not in plugins.names(kind):
            raise UsageError(
                f"{folder}: needs the {kind[:-1]} '{name}', which is not installed; give its --plugin file."
            )


def _config(path: Path | None, settings: list[str], generators: list[str]) -> Config:
    from importlib.resources import files

    from mmbench.config import read_config

    if path is None:
        text, where = (files("mmbench") / "demo.yaml").read_text(encoding="utf-8"), "demonstration"
    else:
        text, where = _text(path), str(path)
    return read_config(text, where, [f"generators.{name}={{}}" for name in generators] + settings)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}.") from None


def _free_folder(wanted: Path) -> Path:
    number, folder = 1, wanted
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def _console(stderr: bool = True) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)
