"""One webhook a run: nothing followed, nothing sent inwards, no failure, no secret."""

import contextlib
import json
import socket
import threading

import pytest

from cluster.workers.patience import Patience
from jobs.errors import DataError, LockedError, RecipeError
from jobs.notify.follow_up import follow_up
from jobs.notify.webhook import RefusedError, deliver, find_addresses, is_public, parse_target
from jobs.recipes.recipe import load_recipe, parse_recipe
from jobs.submit.runtime_env import load_runtime_env
from tests.support.calling import call, edit_recipe
from tests.support.hooks import SECRET, listening_hook, write_certificate
from tests.support.running import run_project
from tests.support.tiny_lstm import RECIPE

DAY = "2026-11-24"


@pytest.fixture
def hook(monkeypatch):
    with listening_hook() as hook:
        monkeypatch.setenv("METAFUSE_WEBHOOK", hook.url)
        monkeypatch.setenv("METAFUSE_NOTIFY_ALLOW", hook.place)
        yield hook


def with_notify(project, block="{}"):
    edit_recipe(project, "output: merged\n", f"output: merged\nnotify: {block}\n")
    return load_recipe(project / "recipe.yaml")


def read_all(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_promotion_is_told_in_one_line_with_the_report(project, hook, capsys):
    recipe = with_notify(project)
    result = run_project(project)
    follow_up(recipe, DAY, result)
    (body,) = hook.bodies
    report = f"{project}/merged/runs/nightly-2026-11-24/report.html"
    assert body["text"].startswith("nightly-2026-11-24 promoted: Use the fused model: its loss is ")
    assert body["text"].endswith(report)
    assert (body["event"], body["verdict"], body["report"]) == ("promoted", "PROMOTE", report)
    assert (body["run"], body["exit_status"], body["code"]) == ("nightly-2026-11-24", 0, "")
    path, headers, _ = hook.seen[0]
    assert path == f"/services/{SECRET}"
    assert headers["Content-Type"] == "application/json"
    follow_up(recipe, DAY, run_project(project))
    assert len(hook.seen) == 1  # nothing new is told only to those who ask for it
    follow_up(with_notify_on(project, "[nothing_new]"), DAY, run_project(project))
    assert hook.bodies[1]["event"] == "nothing_new"
    assert SECRET.encode() not in read_all(project)
    assert capsys.readouterr() == ("", "")


def with_notify_on(project, events):
    edit_recipe(project, "notify: {}", f"notify: {{on: {events}}}")
    return load_recipe(project / "recipe.yaml")


def test_a_run_that_fails_tells_and_fails_as_before(project, hook, capsys):
    with_notify(project)
    edit_recipe(project, "candidates/*", "nowhere/*")
    status, _, err = call(capsys, "run", project / "recipe.yaml", "--date", DAY)
    assert status == 13
    (body,) = hook.bodies
    assert (body["event"], body["code"]) == ("failed", "E-NO-CANDIDATES")
    assert body["text"].startswith("nightly-2026-11-24 failed: E-NO-CANDIDATES ")
    assert "warning" not in err
    assert SECRET not in err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DataError("no column\nline 2"), ["E-DATA no column"]),
        (RuntimeError("https://key:secret@host"), ["E-BUG RuntimeError; see the log"]),
        (LockedError("alive"), []),
    ],
    ids=["ours", "foreign", "locked"],
)
def test_what_is_told_of_an_error(project, hook, error, told):
    follow_up(with_notify(project), DAY, error)
    assert [body["text"] for body in hook.bodies] == [
        f"nightly-2026-11-24 failed: {text}" for text in told
    ]


def test_names_from_elsewhere_call_nobody_and_make_no_link(project, hook):
    follow_up(with_notify(project), DAY, DataError("<!channel> & <http://x|y>\x1b[2J"))
    (body,) = hook.bodies
    assert "&lt;!channel&gt; &amp; &lt;http://x|y&gt;\ufffd[2J" in body["text"]


@pytest.mark.parametrize(
    ("answers", "num_sent", "said"),
    [
        ([(500, {})], 2, ""),
        ([(500, {}), (503, {})], 2, "answered 503"),
        ([(429, {}), (204, {})], 2, ""),
        ([(404, {})], 1, "answered 404"),
        ([(302, {"Location": "/elsewhere"})], 1, "answered 302, which is not followed"),
        ([(307, {"Location": "http://169.254.169.254/"})], 1, "which is not followed"),
    ],
    ids=["mended", "broken", "throttled", "gone", "moved", "led inwards"],
)
def test_two_tries_at_most_and_nothing_is_followed(project, hook, capsys, answers, num_sent, said):
    hook.answers = list(answers)
    follow_up(with_notify(project), DAY, DataError("x"))
    assert len(hook.seen) == num_sent
    err = capsys.readouterr().err
    assert (said in err) if said else (err == "")
    assert SECRET not in err
    assert not any(path == "/elsewhere" for path, *_ in hook.seen)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "the variable is not set here"),
        ("T00/B00/canary-7f3a9c", "no URL such as"),
        ("https://me:canary-7f3a9c@127.0.0.1/", "no URL such as"),
        ("https://hooks.example.org/T00/B00/canary-7f3a9c\n/x y", "no URL such as"),
        ("https://hooks.example.org:99999/canary-7f3a9c", "no URL such as"),
        ("https://hooks.example.org/canary-7f3a9c", "hooks.example.org is not an allowed host"),
        ("https://127.0.0.1:9/canary-7f3a9c", "127.0.0.1:9: "),
        ("file:///etc/canary-7f3a9c", "no URL such as"),
    ],
)  # fmt: skip
def test_a_wrong_address_is_said_without_it(project, monkeypatch, capsys, url, said):
    monkeypatch.setenv("METAFUSE_WEBHOOK", url)
    monkeypatch.setenv("METAFUSE_NOTIFY_ALLOW", "127.0.0.1:9")
    follow_up(with_notify(project), DAY, DataError("x"))
    err = capsys.readouterr().err
    assert err.startswith("warning  nobody was told by the webhook in METAFUSE_WEBHOOK: ")
    assert said in err
    assert "canary" not in err


PRIVATE = (
    "127.0.0.1", "10.0.0.1", "172.16.9.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00:ec2::254",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "ff02::1", "fe80::1%eth0",
)  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_a_recipe_cannot_send_messages_inwards(address):
    assert not is_public(address)
    host = address.partition("%")[0]
    place = f"[{host}]" if ":" in host else host
    with pytest.raises(RefusedError, match="not public"):
        find_addresses(
            parse_target(f"https://{place}/x", allowed=[place], trusted=[]), is_trusted=False
        )


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_public(address):
    assert is_public(address)


def test_a_name_of_this_machine_is_no_way_in(hook):
    port = hook.place.partition(":")[2]
    url = f"https://localhost:{port}/x"
    assert "not public" in deliver(url, b"{}", allowed=[f"localhost:{port}"], trusted=[])
    assert "only https" in deliver(hook.url, b"{}", allowed=[hook.place], trusted=[])
    assert not hook.seen


def test_another_port_is_another_place():
    with pytest.raises(RefusedError, match=r"hooks\.slack\.com:8080 is not an allowed host"):
        parse_target("https://hooks.slack.com:8080/x", allowed=["hooks.slack.com"], trusted=[])
    target = parse_target("https://Hooks.Slack.com/a?b=c", allowed=["hooks.slack.com"], trusted=[])
    assert (target.place, target.path) == ("hooks.slack.com", "/a?b=c")


def test_a_certificate_has_to_be_trusted(tmp_path, monkeypatch):
    certificate = write_certificate(tmp_path / "hook.pem")
    with listening_hook(certificate) as hook:
        words = {"allowed": [], "trusted": [hook.place]}
        said = deliver(hook.url, b"{}", **words)
        assert said == f"{hook.place}: its certificate cannot be trusted"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert deliver(hook.url, b"{}", **words) == ""
        assert len(hook.seen) == 1


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
def test_a_server_that_does_not_answer_costs_seconds(drips):
    patience = Patience(hook_try=0.3, hook_pause=0.01, hook_limit=1.2)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=answer_slowly, args=(server, over, drips), daemon=True)
        thread.start()
        words = {"allowed": [], "trusted": [place], "patience": patience}
        # It would drip for as long as the test waits.
        assert deliver(f"http://{place}/x", b"{}", **words)
        over.set()
        thread.join()


def answer_slowly(server, over, drips):
    server.settimeout(0.1)
    peers = []
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            peers.append(server.accept()[0])
        for peer in peers if drips else ():
            with contextlib.suppress(OSError):
                peer.send(b"H")
    for peer in peers:
        peer.close()


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("{url: https://hooks.slack.com/canary}", "notify.url: recipes are stored"),
        ("{url_env: AWS_SECRET_ACCESS_KEY}", "notify.url_env: expected METAFUSE_WEBHOOK or a name"),
        ("{url_env: https://x/canary}", "the address itself stays in that variable"),
        ("{allow: [https://x/canary]}", "notify.allow.0: expected a host such as"),
        ("{on: [sometimes]}", "notify.on.0: expected 'promoted', 'held'"),
    ],
    ids=["address", "other secret", "address as name", "URL", "event"],
)
def test_mistakes_in_the_block_are_said_without_the_address(block, said):
    with pytest.raises(RecipeError) as refused:
        parse_recipe(RECIPE + f"notify: {block}\n", name="r.yaml", folder="/")
    assert said in str(refused.value)
    assert "canary" not in str(refused.value)


def test_the_block_does_not_make_it_another_run():
    plain = parse_recipe(RECIPE, name="r.yaml", folder="/")
    text = "notify: {url_env: METAFUSE_WEBHOOK_TEAM, on: [failed], allow: [hooks.slack.com]}\n"
    told = parse_recipe(RECIPE + text + "retention: {keep: 7, older_than: 14d}\n",
                        name="r.yaml", folder="/")  # fmt: skip
    assert told.digest == plain.digest
    assert told.notify.on == ("failed",)
    assert json.loads(told.notify.model_dump_json())["allow"] == ["hooks.slack.com"]


def test_whoever_submits_tells_where_no_driver_can(project, hook, capsys, monkeypatch):
    with_notify(project)
    for name in ("candidates/", "data/", "merged"):
        edit_recipe(project, name, f"{project}/{name}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    words = ("submit", project / "recipe.yaml", "--date", DAY, "--address", address)
    status, _, err = call(capsys, *words)
    assert (status, [body["code"] for body in hook.bodies]) == (40, ["E-CLUSTER"])
    monkeypatch.delenv("METAFUSE_WEBHOOK")
    assert call(capsys, *words) == (40, "", err)
    assert "nobody was told" not in err


def test_an_address_cannot_travel_with_a_job(tmp_path):
    path = tmp_path / "env.yaml"
    for name in ("METAFUSE_WEBHOOK", "METAFUSE_WEBHOOK_TEAM"):
        path.write_text(f"env_vars: {{{name}: https://hooks.slack.com/canary}}\n")
        with pytest.raises(RecipeError, match=name) as refused:
            load_runtime_env(path)
        assert "canary" not in str(refused.value)


def test_a_plan_says_who_would_be_told_and_sends_nothing(project, hook, capsys, monkeypatch):
    with_notify(project, "{on: [held, failed]}")
    words = ("plan", project / "recipe.yaml")
    assert "  notify     held, failed: told by the webhook in METAFUSE_WEBHOOK\n" in shown(
        capsys, words
    )
    monkeypatch.setenv("METAFUSE_NOTIFY_ALLOW", "")
    assert f"{hook.place} is not an allowed host" in shown(capsys, words)
    monkeypatch.setenv("METAFUSE_NOTIFY_ALLOW", "https://x/canary")
    assert "METAFUSE_NOTIFY_ALLOW has 'https://x/canary'" in shown(capsys, words)
    monkeypatch.delenv("METAFUSE_WEBHOOK")
    told = json.loads(shown(capsys, (*words, "--json")))["notify"]
    assert told == "nobody is told from here: METAFUSE_WEBHOOK: the variable is not set here"
    assert not hook.seen


def shown(capsys, words):
    status, out, _ = call(capsys, *words)
    assert status == 0
    assert SECRET not in out
    return out
