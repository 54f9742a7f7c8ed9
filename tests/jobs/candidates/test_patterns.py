import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UnsupportedError
from jobs.candidates.patterns import expand_pattern, short_names
from tests.support.checkpoints import whole_checkpoint, write_files

WHOLE = {"model.safetensors": b"", "config.json": b""}


def write_tree(place, *folders):
    for folder in folders:
        write_files(place, {f"{folder}/{file}": content for file, content in WHOLE.items()})


@pytest.fixture(params=["folder", "memory"])
def place(request, tmp_path):
    root = str(tmp_path) if request.param == "folder" else f"memory://{uuid.uuid4().hex}/x"
    write_tree(root, "seed-1", "seed-2", "run-a/step-1", "run-a/step-2", "run-b/step-1", ".old/s")
    write_files(root, {"seed-1/log/a.txt": b"", "notes/x.txt": b""})
    return root


def expand(place, rest):
    return [uri.removeprefix(f"{place}/") for uri in expand_pattern(f"{place}{rest}").uris]


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        ("/seed-1", ["seed-1"]),
        ("/seed-1/", ["seed-1"]),
        ("", ["seed-1", "seed-2"]),
        ("/", ["seed-1", "seed-2"]),
        ("/seed-*", ["seed-1", "seed-2"]),
        ("/seed-?/", ["seed-1", "seed-2"]),
        ("/seed-[2-9]", ["seed-2"]),
        ("/seed-[!2]", ["seed-1"]),
        ("/run-a", ["run-a/step-1", "run-a/step-2"]),
        ("/run-*", ["run-a/step-1", "run-a/step-2", "run-b/step-1"]),
        ("/run-*/step-1", ["run-a/step-1", "run-b/step-1"]),
        ("/*/step-2", ["run-a/step-2"]),
        ("/**/step-1", ["run-a/step-1", "run-b/step-1"]),
        ("/**/seed-1", ["seed-1"]),
        ("/.*", [".old/s"]),
        ("/seed-1/model.safetensors", ["seed-1"]),
        ("/seed-*/*.safetensors", ["seed-1", "seed-2"]),
        ("/seed", []),
        ("/seed-1/log", []),
        ("/notes", []),
        ("/*/*/*", []),
        ("/nowhere/*", []),
    ],
    ids=str,
)
def test_a_pattern_stands_for_checkpoints(place, rest, found):
    assert expand(place, rest) == found


def test_a_star_stands_for_every_visible_folder_and_what_it_stands_for(place):
    assert expand(place, "/*") == [
        "run-a/step-1", "run-a/step-2", "run-b/step-1", "seed-1", "seed-2",
    ]  # fmt: skip


def test_a_checkpoint_hides_the_steps_below_it(place):
    write_files(place, WHOLE)
    assert expand_pattern(place).uris == (place,)


@pytest.mark.parametrize("file", ["config.json", "training_args.bin", "optimizer.pt"])
def test_what_a_trainer_leaves_does_not_hide_the_steps_below(place, file):
    write_files(place, {f"run-a/{file}": b"x"})
    assert expand(place, "/run-a") == ["run-a/step-1", "run-a/step-2"]


def test_a_folder_with_nothing_but_a_config_is_a_checkpoint_in_the_making(place):
    write_files(place, {"new/config.json": b"{}"})
    assert expand(place, "/new") == ["new"]


def test_a_pickle_file_stands_for_its_folder(place):
    write_files(place, {"old/pytorch_model.bin": b"PK"})
    assert expand(place, "/old/pytorch_model.bin") == ["old"]


@pytest.mark.parametrize("pattern", ["*", "seed-*", "./seed-*", "seed-1", ".", "../here/seed-?"])
def test_paths_may_be_relative(tmp_path, monkeypatch, pattern):
    folder = tmp_path / "here"
    write_tree(folder, "seed-1")
    monkeypatch.chdir(folder)
    assert expand_pattern(pattern).uris == (f"{folder}/seed-1",)


@pytest.mark.parametrize(
    "form", ["{}/a/../seed-1", "{}//seed-1", "file://{}/seed-1", "file://{}/s*"]
)
def test_one_place_has_one_uri(tmp_path, form):
    write_tree(tmp_path, "seed-1")
    assert expand_pattern(form.format(tmp_path)).uris == (f"{tmp_path}/seed-1",)


@pytest.mark.parametrize("pattern", ["s3://buck*/x", "s3://*", "memory://?/x"])
def test_a_glob_cannot_stand_for_buckets(pattern):
    with pytest.raises(UnsupportedError, match="where its bucket stands"):
        expand_pattern(pattern)


@pytest.mark.parametrize(
    ("rest", "note"),
    [
        ("/seed-*", "2 checkpoints"),
        ("/gone", "nothing is there"),
        ("/notes", "no checkpoint among 1 files"),
        ("/ru", "nothing is there"),
        ("/run-*/seed", "nothing matches; there is a checkpoint in .old/s"),
    ],
    ids=str,
)
def test_the_note_says_what_was_there(place, rest, note):
    assert expand_pattern(f"{place}{rest}").note == note


@pytest.mark.parametrize(
    ("uris", "names"),
    [
        (["/a/seed-1", "/a/seed-2"], ["seed-1", "seed-2"]),
        (["/a/run-1/step-9", "/a/run-2/step-9", "/a/x"], ["run-1/step-9", "run-2/step-9", "x"]),
        (["s3://b/x", "s3://c/x"], ["b/x", "c/x"]),
        (["memory://m/x", "/m/x"], ["memory://m/x", "/m/x"]),
        (["/x", "/a/x"], ["/x", "a/x"]),
        (["/"], ["/"]),
        ([], []),
    ],
    ids=str,
)
def test_a_name_is_the_shortest_end_that_no_other_has(uris, names):
    assert list(short_names(uris).values()) == names


paths = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(paths.map("/{}".format), unique=True), st.booleans())
def test_names_are_unique_ends_of_their_uris(uris, reverse):
    names = short_names(uris)
    assert len(set(names.values())) == len(uris)
    assert all(uri.endswith(name) for uri, name in names.items())
    assert short_names(sorted(uris, reverse=reverse)) == names


@pytest.mark.parametrize("name", ["run[1]", "run?", "run*", "a[b"])
def test_a_name_that_exists_is_no_pattern(tmp_path, name):
    write_files(tmp_path / name, whole_checkpoint())
    write_files(tmp_path / "run1", whole_checkpoint())
    write_files(tmp_path / name / "deep/s", whole_checkpoint())
    assert expand_pattern(f"{tmp_path}/{name}").uris == (f"{tmp_path}/{name}",)
    assert expand_pattern(f"{tmp_path}/{name}/deep/*").uris == (f"{tmp_path}/{name}/deep/s",)


def test_a_prefix_with_brackets_is_taken_as_it_is_too():
    place = f"memory://{uuid.uuid4().hex}/runs"
    for name in ("run[1]", "run1"):
        write_files(f"{place}/{name}", whole_checkpoint())
    assert expand_pattern(f"{place}/run[1]").uris == (f"{place}/run[1]",)
    assert expand_pattern(f"{place}/run[2-9]").uris == ()


def test_what_patterns_find_in_the_output_is_left_out_and_counted(tmp_path):
    for name in ("ckpts/a", "ckpts/out/runs/r1/model-1", "ckpts/out/runs/r2/model-2"):
        write_files(tmp_path / name, whole_checkpoint())
    runs = f"{tmp_path}/ckpts/out/runs"
    found = expand_pattern(f"{tmp_path}/ckpts/**", output=runs)
    assert (found.uris, len(found.own)) == ((f"{tmp_path}/ckpts/a",), 2)
    named = f"{runs}/r1/model-1"
    assert expand_pattern(named, output=runs).uris == (named,)
