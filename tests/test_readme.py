"""What the README says, done."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_generator_in_the_readme_is_the_example_and_has_30_lines():
    shown = re.search(r"```python\n# examples/jitter.py\n(.*?)```", README, re.S).group(1)
    example = (ROOT / "examples" / "jitter.py").read_text()
    assert shown.strip() == example.strip()
    assert len(example.strip().splitlines()) <= 30


def test_the_generator_in_the_readme_takes_part(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        "cohort: {source: phantom, subjects: 40, shape: [24, 20, 8], spacing: [18, 18, 64]}\n"
        "generators: {bootstrap: {}}\nmetrics: [coherence, column-shapes, associations]\n"
    )
    command = [sys.executable, "-P", "-m", "mmbench", "run", config, "--out", "run"]
    command += [
        "--plugin",
        ROOT / "examples" / "jitter.py",
        "--generator",
        "jitter",
        "--set",
        "generators.jitter.noise=0.1",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "jitter" in report
    assert "jitter" in (tmp_path / "run" / "report" / "summary.md").read_text()


@pytest.mark.parametrize("script", re.findall(r"^sh (\S+)", README, re.M))
def test_the_two_commands_name_scripts_that_a_shell_understands(script):
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["sh", "-n", ROOT / script], check=True)


def test_ci_calls_the_readmes_test_command():
    command = re.findall(r"^(sh tests\S+)", README, re.M)[0]
    assert command in (ROOT / ".ci" / "run").read_text()


def test_every_link_in_the_documents_leads_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_score_is_documented():
    from mmbench import plugins

    page = (ROOT / "docs" / "metrics.md").read_text()
    for name in plugins.names("metrics"):
        for output in plugins.load("metrics", name).outputs:
            assert f"`{output.name}`" in page
