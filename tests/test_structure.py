"""The rooms: what may import what, how large things grow, what a plain command loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.stores.open_store import open_store
from tests.support.light_runs import drive
from tests.support.merging import write_sources
from tests.support.tiny_lstm import write_project

ROOT = Path(__file__).parent.parent
ROOMS = ("fusion", "cluster", "jobs")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
FUSION_MAY_IMPORT = set(sys.stdlib_module_names) | {"torch", "numpy", "scipy", "fusion"}
FUSION_MUST_NOT_IMPORT = {"os", "io", "pathlib", "socket", "time", "random", "secrets", "tempfile"}
ONLY_HERE = {
    "ray": "cluster/ray/",
    "boto3": "cluster/stores/s3/",
    "pydantic": "jobs/recipes/",
    "click": "jobs/cli/",
}
FORBIDDEN_NAMES = ("utils", "common", "helpers", "manager", "base")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if relative(p).startswith("fusion/")], ids=relative
)
def test_fusion_imports_mathematics_only(path):
    names = imported(path)
    assert names <= FUSION_MAY_IMPORT
    assert not names & FUSION_MUST_NOT_IMPORT


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 - docstring_lines(node) <= 40, node.name


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        assert first.end_lineno is not None
        return first.end_lineno - first.lineno + 1
    return 0


@pytest.mark.parametrize("package", sorted(ONLY_HERE))
def test_heavy_packages_have_one_place(package):
    users = {relative(path) for path in SOURCES if package in imported(path)}
    assert users
    assert not [path for path in users if not path.startswith(ONLY_HERE[package])]


def test_jobs_has_rooms_and_little_else():
    files = {path.name for path in (ROOT / "jobs").glob("*.py")}
    assert files == {"__init__.py", "__main__.py", "errors.py", "exits.py"}


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=relative)
def test_a_room_can_be_looked_over(folder):
    assert sum(path.is_file() for path in folder.iterdir()) <= 20


def test_file_names_say_what_is_inside():
    assert not [p for p in SOURCES if any(word in p.stem.split("_") for word in FORBIDDEN_NAMES)]


def loaded_by(*arguments: str) -> set[str]:
    """Top-level modules in memory after a metafuse command in a fresh process."""
    script = (
        "import sys\nfrom jobs.cli.main import main\n"
        f"sys.argv = ['metafuse', *{list(arguments)!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_help_loads_nothing_heavy():
    assert not loaded_by("--help") & {
        "torch", "ray", "boto3", "transformers", "pyarrow", "matplotlib", "scipy", "pydantic",
    }  # fmt: skip


HEAVY = {"torch", "ray", "transformers"}
VERBS = {
    "status": (),
    "history": ("--write",),
    "verify": ("--all",),
    "gc": ("--dry-run",),
    "unhold": (),
    "hold": ("--reason", "r"),
    "rollback": ("--reason", "r"),
    "promote": ("nightly-2026-11-21", "--reason", "r"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_verbs_of_the_operator_start_at_once(tmp_path, verb):
    store = open_store(str(tmp_path))
    drive(store, "2026-11-21")
    drive(store, "2026-11-22")
    loaded = loaded_by(verb, str(tmp_path), *VERBS[verb])
    assert "jobs" in loaded
    assert not loaded & {*HEAVY, "boto3", "pydantic", "matplotlib"}


def test_plan_of_local_candidates_loads_no_torch_no_ray_no_boto3(tmp_path):
    recipe = write_project(tmp_path)
    loaded = loaded_by("plan", str(recipe))
    assert "pydantic" in loaded
    assert not loaded & {*HEAVY, "boto3"}


def test_merge_of_a_mergekit_document_loads_torch_and_little_else(tmp_path):
    write_sources(tmp_path, 2)
    (tmp_path / "m.yml").write_text(
        "models: [{model: m0, parameters: {weight: 1}}, {model: m1, parameters: {weight: 1}}]\n"
        "merge_method: linear\n"
    )
    loaded = loaded_by("merge", str(tmp_path / "m.yml"), str(tmp_path / "out"))
    assert "torch" in loaded
    assert not loaded & {"ray", "transformers", "boto3", "pydantic", "scipy", "pyarrow", "jinja2"}
    assert (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.s3
def test_plan_of_candidates_on_s3_loads_boto3_and_nothing_heavier(tmp_path, moto, use):
    use(moto)
    recipe = write_project(tmp_path)
    store = open_store("s3://plain/structure")
    for path in (tmp_path / "candidates").rglob("*"):
        if path.is_file():
            store.put(path.relative_to(tmp_path).as_posix(), path.read_bytes())
    text = recipe.read_text().replace("candidates/*", "s3://plain/structure/candidates/*")
    recipe.write_text(text)
    loaded = loaded_by("plan", str(recipe))
    assert "boto3" in loaded
    assert not loaded & HEAVY


def test_parquet_is_read_in_one_place():
    """`read_table` may abort a process that ends soon after: see parquet_file.py."""
    assert not [relative(path) for path in SOURCES if "parquet.read_table(" in path.read_text()]
