"""A saved toy cohort and the command line as a user calls it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmbench.cohort import save_cohort
from mmbench.testing import toy_cohort

MISBEHAVING = Path(__file__).parent / "misbehaving.py"


@pytest.fixture(scope="session")
def cohort_folder(tmp_path_factory):
    return save_cohort(toy_cohort(60), tmp_path_factory.mktemp("cohorts") / "toy")


@pytest.fixture
def write_config(tmp_path, cohort_folder):
    """Return a function that writes a quick configuration and returns its path."""

    def write(generators, extra=""):
        path = tmp_path / "config.yaml"
        path.write_text(
            f"name: trial\ncohort: {{source: saved, path: '{cohort_folder}'}}\n"
            f"generators: {generators}\nmetrics: [column-shapes, associations]\nmeasurer: null\nextractor: null\n"
            f"report: {{formats: []}}\n{extra}"
        )
        return path

    return write


@pytest.fixture
def mmbench(tmp_path):
    """Return a function that runs the command line in an empty folder."""

    def call(*arguments, background=False):
        command = [sys.executable, "-P", "-m", "mmbench", *map(str, arguments)]
        environment = os.environ | {"COLUMNS": "200"}
        if background:
            return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return call
