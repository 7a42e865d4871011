"""The rules that keep data flowing one way, read off the syntax trees."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGIN_FOLDERS = ("generators", "metrics", "reports")


def imports(path):
    """Yield every absolute module that a file imports, and relative ones with their dots."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names if node.module == "mmbench")


def breaches(path, folder):
    depth = len(path.relative_to(ROOT / folder).parts)
    for name in imports(path):
        if name.startswith("mmbench") and name not in ("mmbench.api", "mmbench"):
            if not name.startswith("mmbench.api"):
                yield f"{path.relative_to(ROOT)} imports {name}"
        elif name.startswith("." * (depth + 1)):
            yield f"{path.relative_to(ROOT)} reaches out of {folder} with {name}"


@pytest.mark.parametrize("folder", PLUGIN_FOLDERS)
def test_plugins_import_the_contract_and_their_siblings_only(folder):
    found = [breach for path in (ROOT / folder).rglob("*.py") for breach in breaches(path, folder)]
    assert not found


def test_the_harness_imports_no_built_in_plugin():
    owned = tuple(f"mmbench.{folder}" for folder in PLUGIN_FOLDERS) + PLUGIN_FOLDERS
    for path in (ROOT / "mmbench").rglob("*.py"):
        for name in imports(path):
            assert not any(name == one or name.startswith(f"{one}.") for one in owned), (
                f"{path} imports {name}"
            )


@pytest.mark.parametrize(
    "line",
    [
        "from mmbench.store import Run",
        "import mmbench.runner",
        "from mmbench import cell",
        "from ..metrics import x",
    ],
)
def test_a_planted_breach_is_found(tmp_path, monkeypatch, line):
    planted = ROOT / "generators" / "bootstrap.py"
    tree = planted.read_text() + f"\n{line}\n"
    copy = tmp_path / "generators" / "planted.py"
    copy.parent.mkdir()
    copy.write_text(tree)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert list(breaches(copy, "generators"))


def test_every_package_folder_is_listed_in_pyproject():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set()
    for top in ("mmbench", *PLUGIN_FOLDERS):
        for init in (ROOT / top).rglob("__init__.py"):
            dotted = ".".join(init.parent.relative_to(ROOT).parts)
            found.add(dotted if top == "mmbench" else f"mmbench.{dotted}")
    assert found == set(settings["packages"])


def test_every_entry_point_names_a_class_that_exists():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for points in groups.values():
        for name, target in points.items():
            module, _, attribute = target.partition(":")
            parts = module.split(".")
            parts = parts[1:] if parts[1] in PLUGIN_FOLDERS else parts
            base = ROOT.joinpath(*parts)
            path = base.with_suffix(".py") if base.with_suffix(".py").exists() else base / "__init__.py"
            tree = ast.parse(path.read_text())
            defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
            defined |= {
                a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names
            }
            assert attribute in defined, f"{name}: {target}"


def test_nothing_loads_code_from_data():
    forbidden = {"pickle", "cloudpickle", "joblib", "dill"}
    for top in ("mmbench", *PLUGIN_FOLDERS):
        for path in (ROOT / top).rglob("*.py"):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    text = ast.unparse(node)
                    name = ast.unparse(node.func)
                    assert name not in ("eval", "exec", "torch.load", "yaml.load"), f"{path}: {text}"
                    assert "allow_pickle=True" not in text, f"{path}: {text}"
            assert not forbidden & {name.split(".")[0] for name in imports(path)}, path
