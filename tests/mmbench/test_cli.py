"""The command line: what it prints, and that a mistake is one message and status 2."""

import json

import pytest

from mmbench.cohort import load_cohort


def test_help_needs_nothing_heavy(mmbench):
    import subprocess
    import sys

    code = (
        "import sys; sys.argv = ['mmbench', '--help']\n"
        "from mmbench.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'monai', 'sdv', 'pandas', 'numpy', 'matplotlib', 'sklearn', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(mmbench):
    assert mmbench("--version").stdout.startswith("mmbench ")


@pytest.mark.parametrize(
    ("generators", "extra", "parts"),
    [
        ("{bootstrap: {}, ctgam: {}}", "", ["no generator 'ctgam'", "'ctgan'"]),
        ("{bootstrap: {}}", "executin: {}\n", ["config.yaml, line 8", "executin", "execution"]),
        ("{bootstrap: {size: 3}}", "", ["generators.bootstrap", "size"]),
        ("{}", "", ["name at least one"]),
        ("{bootstrap: {}}", "split: {train: 0.9}\n", ["sum to 1"]),
        ("{bootstrap: {}}", "split: {stratify: [age]}\n", ["no column 'age'"]),
    ],
)
def test_a_mistake_is_one_message_and_leaves_nothing(
    mmbench, write_config, tmp_path, generators, extra, parts
):
    done = mmbench("run", write_config(generators, extra), "--out", "run")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr
    assert not (tmp_path / "run").exists()


def test_no_such_cohort_and_no_such_config(mmbench, write_config, tmp_path):
    done = mmbench("run", write_config("[bootstrap]"), "--set", "cohort.path=nowhere")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert mmbench("run", "nowhere.yaml").returncode == 2
    assert mmbench("report", "nowhere").returncode == 2
    assert mmbench("cohort", "inspect", "nowhere").returncode == 2


def test_debug_shows_the_traceback(mmbench):
    done = mmbench("--debug", "show", "nobody")
    assert "Traceback" in done.stderr
    assert "Traceback" not in mmbench("show", "nobody").stderr


def test_list_and_show_tell_of_every_plugin(mmbench):
    listed = mmbench("list").stdout
    for name in ("phantom", "joint-ldm", "dixon-composition", "coherence", "html"):
        assert name in listed
    shown = mmbench("show", "ctgan").stdout
    assert "epochs" in shown
    assert "300" in shown
    assert "BUSL" in shown
    assert "coherence" in mmbench("show", "coherence").stdout
    wrong = mmbench("list", "generator")
    assert wrong.returncode == 2
    assert "generators" in wrong.stderr


def test_a_dry_run_prints_the_plan_and_writes_nothing(mmbench, write_config, tmp_path):
    done = mmbench("run", write_config("{bootstrap: {}, 'pair(tvae, bootstrap)': {}}"), "--dry-run")
    assert done.returncode == 0, done.stderr
    for cell in ("bootstrap.fit0", "tvae.fit0", "pair_tvae_bootstrap.fit0"):
        assert cell in done.stdout
    assert not (tmp_path / "runs").exists()


def test_cohort_make_inspect_validate(mmbench, tmp_path):
    small = ["--set", "shape=[24, 20, 8]", "--set", "spacing=[18, 18, 64]"]
    made = mmbench("cohort", "make", "--subjects", "6", *small, "--out", "six")
    assert made.returncode == 0, made.stderr
    assert len(load_cohort(tmp_path / "six")) == 6
    assert mmbench("cohort", "make", "--subjects", "6", *small, "--out", "six").returncode == 2
    card = json.loads(mmbench("cohort", "inspect", "six", "--json", "--montage", "six.png").stdout)
    assert "6" in json.dumps(card)
    assert (tmp_path / "six.png").stat().st_size > 1000
    assert "bmi" in mmbench("cohort", "inspect", "six").stdout
    assert mmbench("cohort", "validate", "six").returncode == 0
    volumes = tmp_path / "six" / "volumes.npy"
    data = bytearray(volumes.read_bytes())
    data[-1] ^= 0x40
    volumes.write_bytes(bytes(data))
    broken = mmbench("cohort", "validate", "six")
    assert broken.returncode == 2
    assert "six" in broken.stdout


def test_resume_takes_no_other_options(mmbench):
    assert mmbench("run", "--resume", "somewhere", "--out", "other").returncode == 2
