"""`quaymaster pool` and `quaymaster worker`, against the API in memory."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from quaymaster.dispatcher.users.pools import find_pool
from quaymaster.domain.cost import CALLS_OF_A_RUN, Spent, month_of
from quaymaster.domain.images import ImageDefinition
from quaymaster.domain.states import Reason
from quaymaster.domain.trouble import StartFailure, TroubleKind
from quaymaster.domain.worker import WorkerState
from quaymaster.ports import Count, Create, Replace
from quaymaster_sealing.keys import make_csr, make_key

from tests.shared.memory.cli_calls import Cli
from tests.shared.memory.run_records import add_worker


@pytest.fixture
def cli() -> Cli:
    return Cli()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "pool.pem"
    make_key(path)
    return path


@pytest.fixture(scope="module")
def csr(key: Path) -> Path:
    path = key.with_suffix(".csr")
    path.write_text(make_csr(key.read_bytes()))
    return path


def token_in(text: str) -> dict[str, Any]:
    """A token as the agent reads it."""
    return json.loads(base64.b64decode(text))


def test_a_private_pool_is_created_from_a_csr_and_only_its_token_is_on_stdout(cli: Cli, csr: Path) -> None:
    ended = cli("pool", "create", "red", "--kind", "private", "--csr", str(csr))
    assert ended.code == 0, ended.err
    assert token_in(ended.out)["pool_id"] == cli("pool", "show", "red", "--json").json["id"]
    assert "created private pool red" in ended.err


def test_the_token_goes_to_a_file_that_only_its_owner_reads(cli: Cli, csr: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    ended = cli("pool", "create", "red", "--csr", str(csr), "--token-file", str(token), "--json")
    assert ended.code == 0, ended.err
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token_in(token.read_text())["pool_id"] == ended.json["pool"]["id"]
    assert token.read_text() not in ended.out + ended.err
    again = cli("pool", "create", "blue", "--csr", str(csr), "--token-file", str(token))
    assert (again.code, "exists already" in again.err) == (2, True)
    assert [pool["name"] for pool in cli("pool", "list", "--json").json["pools"]] == ["red"]


def test_a_key_that_does_not_exist_is_made_and_one_that_does_is_used(cli: Cli, tmp_path: Path) -> None:
    key = tmp_path / "red.pem"
    made = cli("pool", "create", "red", "--key", str(key))
    assert made.code == 0, made.err
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    content = key.read_bytes()
    used = cli("pool", "create", "blue", "--key", str(key))
    assert used.code == 0, used.err
    assert key.read_bytes() == content


def test_no_key_is_made_for_a_name_that_exists(cli: Cli, csr: Path, tmp_path: Path) -> None:
    cli("pool", "create", "red", "--csr", str(csr))
    key = tmp_path / "other.pem"
    ended = cli("pool", "create", "red", "--key", str(key))
    assert ended.code == 1
    assert "a pool named 'red' exists already" in ended.err
    assert not key.exists()


@pytest.mark.parametrize(
    "words",
    [["Red"], ["red", "--log-timeout", "ages"], ["red", "--log-timeout", "30s"], ["red", "--lease", "1s"]],
)
def test_a_pool_that_is_refused_leaves_no_file_behind(cli: Cli, tmp_path: Path, words: list[str]) -> None:
    key, token = tmp_path / "red.pem", tmp_path / "red.token"
    ended = cli("pool", "create", *words, "--key", str(key), "--token-file", str(token))
    assert ended.code == 2
    assert list(tmp_path.iterdir()) == []
    assert cli.api.store.records() == []


def test_no_pool_is_made_whose_token_or_key_cannot_be_written(cli: Cli, csr: Path, tmp_path: Path) -> None:
    for words in (
        ["--csr", str(csr), "--token-file", str(tmp_path / "nowhere" / "token")],
        ["--key", str(tmp_path / "nowhere" / "key")],
    ):
        ended = cli("pool", "create", "red", *words)
        assert (ended.code, "cannot write" in ended.err) == (1, True)
    assert cli.api.store.records() == []


def test_a_key_stays_if_the_pool_may_have_been_created(cli: Cli, tmp_path: Path) -> None:
    def cut(request: httpx.Request) -> None:
        if request.method == "POST":
            raise httpx.ReadTimeout("no answer", request=request)

    cli.before = cut
    key = tmp_path / "red.pem"
    ended = cli("pool", "create", "red", "--key", str(key))
    assert (ended.code, key.exists()) == (1, True)
    assert "nobody knows whether the pool was created" in ended.err


def test_an_ec_key_is_refused_in_a_certificate_request_too(cli: Cli, tmp_path: Path) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    (tmp_path / "ec.csr").write_bytes(request.public_bytes(serialization.Encoding.PEM))
    ended = cli("pool", "create", "red", "--csr", str(tmp_path / "ec.csr"))
    assert (ended.code, "--csr: a pool's key is an RSA key of 2048 bits or more" in ended.err) == (2, True)


def test_every_setting_is_an_option(cli: Cli, csr: Path) -> None:
    options = ["--log-timeout", "90s", "--max-run-timeout", "48h", "--max-workers", "3", "--lease", "1h10m"]
    assert cli("pool", "create", "red", "--csr", str(csr), *options).code == 0
    settings = cli("pool", "show", "red", "--json").json["settings"]
    assert (settings["log_timeout"], settings["max_run_timeout"], settings["max_workers"], settings["lease"]) == (
        "1m30s",
        "48h",
        3,
        "1h10m",
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["pool", "create", "red"], 2, "needs --csr FILE, or --key FILE"),
        (["pool", "create", "red", "--csr", "nowhere"], 2, "--csr: cannot read nowhere"),
        (["pool", "create", "red", "--csr", "CSR", "--key", "KEY"], 2, "needs --csr FILE, or --key FILE"),
        (["pool", "create", "red", "--key", "CSR"], 2, "--key: not an unencrypted private key"),
        (["pool", "create", "Red", "--csr", "CSR"], 2, "name: found 'Red'"),
        (["pool", "create", "red", "--csr", "CSR", "--log-timeout", "ages"], 2, "settings.log_timeout: found 'ages'"),
        (["pool", "create", "red", "--csr", "CSR", "--image", "x"], 2, "image: found x; only a Fargate pool"),
        (["pool", "create", "red", "--csr", "CSR", "--kind", "cloud"], 2, "cloud"),
        (["pool", "show", "nope"], 1, "no pool 'nope'"),
        (["worker", "list", "--pool", "nope"], 1, "no pool 'nope'"),
        (["worker", "list"], 2, "--pool"),
        (["pool"], 2, ""),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    cli: Cli, key: Path, csr: Path, words: list[str], code: int, said: str
) -> None:
    ended = cli(*({"CSR": str(csr), "KEY": str(key)}.get(word, word) for word in words))
    assert ended.code == code, ended.err
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert cli.api.store.records() == []


def test_a_fargate_pools_key_and_token_are_put_where_its_tasks_read_them(cli: Cli, key: Path) -> None:
    ended = cli("pool", "create", "sea", "--kind", "fargate", "--key", str(key), "--cpu", "512", "--json")
    assert ended.code == 0, ended.err
    made = ended.json
    assert cli.parameters.values[made["key_parameter"]] == key.read_text()
    token = json.loads(cli.parameters.values[made["token_parameter"]])
    assert token["pool_id"] == made["pool"]["id"]
    assert set(cli.parameters.values) == {made["key_parameter"], made["token_parameter"]}
    assert all(len(value.encode()) <= 4096 for value in cli.parameters.values.values())


def test_retrying_a_pool_ends_its_pause_and_rings_for_it(cli: Cli) -> None:
    assert cli("pool", "create", "sea", "--kind", "fargate").code == 0
    store = cli.api.store
    pool = find_pool(store, "sea")
    starts = store.starts(pool.id)
    assert starts
    failure = StartFailure(kind=TroubleKind.PERMANENT, reason=Reason.IMAGE_PULL, note="no such image")
    store.commit(Replace(starts.troubled(failure, cli.api.clock(), b"xx")))
    assert "no such image" in cli("pool", "show", "sea").out
    for _ in range(2):
        ended = cli("pool", "retry", "sea")
        assert (ended.code, ended.out) == (0, "")
        assert "pool sea starts tasks again; 0 runs wait" in ended.err
    assert cli("pool", "retry", "sea", "--json").json["trouble"] is None
    assert "no such image" not in cli("pool", "show", "sea").out


def test_a_private_pool_or_none_at_all_is_nothing_to_retry(cli: Cli, key: Path) -> None:
    assert cli("pool", "create", "red", "--key", str(key)).code == 0
    private, unknown = cli("pool", "retry", "red"), cli("pool", "retry", "sea")
    assert (private.code, unknown.code) == (2, 1)
    assert "pool: found red; a Fargate pool" in private.err
    assert "no pool 'sea'" in unknown.err


def test_a_fargate_pool_without_a_key_gets_one_that_is_nowhere_else(cli: Cli, tmp_path: Path) -> None:
    ended = cli("pool", "create", "sea", "--kind", "fargate")
    assert ended.code == 0, ended.err
    (key,) = (value for name, value in cli.parameters.values.items() if name.endswith("private-key"))
    assert "PRIVATE KEY" in key
    assert "PRIVATE KEY" not in ended.out + ended.err


def test_a_fargate_pool_whose_key_may_not_be_put_is_not_created(cli: Cli, key: Path) -> None:
    cli.parameters.refuse = "private-key"
    ended = cli("pool", "create", "sea", "--kind", "fargate", "--key", str(key))
    assert (ended.code, "you may not" in ended.err) == (1, True)
    assert cli.api.store.records() == []


def test_a_fargate_pool_that_is_refused_leaves_no_key_behind(cli: Cli, key: Path) -> None:
    ended = cli("pool", "create", "sea", "--kind", "fargate", "--key", str(key), "--log-timeout", "9h")
    assert ended.code == 2
    assert "settings.log_timeout" in ended.err
    assert cli.parameters.values == {}


def test_a_fargate_pool_that_may_have_been_created_keeps_its_key(cli: Cli, key: Path) -> None:
    def cut(request: httpx.Request) -> None:
        if request.method == "POST":
            raise httpx.ReadTimeout("no answer", request=request)

    cli.before = cut
    ended = cli("pool", "create", "sea", "--kind", "fargate", "--key", str(key))
    assert ended.code == 1
    ((name, value),) = cli.parameters.values.items()
    assert value == key.read_text()
    assert name in ended.err


def test_a_token_that_cannot_be_put_is_shown_because_nobody_can_show_it_again(cli: Cli, key: Path) -> None:
    cli.parameters.refuse = "token"
    ended = cli("pool", "create", "sea", "--kind", "fargate", "--key", str(key))
    assert ended.code == 1
    tokens = [line for line in ended.err.splitlines() if line.startswith("ey")]
    assert token_in(tokens[0])["pool_id"] == cli("pool", "show", "sea", "--json").json["id"]


def test_a_fargate_pool_needs_its_key_and_not_a_csr(cli: Cli, csr: Path) -> None:
    ended = cli("pool", "create", "sea", "--kind", "fargate", "--csr", str(csr))
    assert (ended.code, "private key" in ended.err) == (2, True)


def test_pools_and_workers_are_listed_in_columns(cli: Cli, csr: Path) -> None:
    cli("pool", "create", "red", "--csr", str(csr))
    add_worker(cli.api, WorkerState.IDLE, "idle00000")
    add_worker(cli.api, WorkerState.GONE, "gone00000")
    header, red = cli("pool", "list").rows
    assert header[:3] == ["NAME", "KIND", "IDLE"]
    assert red[:3] == ["red", "private", "1"]
    header, worker = cli("worker", "list", "--pool", "red").rows
    assert dict(zip(header, worker, strict=True))["METADATA"] == "host=h1"
    assert len(cli("worker", "list", "--pool", "red", "--all", "--json").json["workers"]) == 2


def test_a_pool_is_shown_with_all_its_settings(cli: Cli, csr: Path) -> None:
    cli("pool", "create", "red", "--csr", str(csr), "--log-timeout", "90s")
    lines = cli("pool", "show", "red").out.splitlines()
    assert [line.split() for line in lines if line.startswith("log-timeout")] == [["log-timeout", "1m30s"]]
    assert any(line.startswith("certificate ") for line in lines)


def test_a_fargate_pool_shows_its_month_and_the_images_that_its_runs_have_named(cli: Cli, key: Path) -> None:
    words = ["--kind", "fargate", "--key", str(key), "--images", "registry.example/*", "--architecture", "arm64"]
    assert cli("pool", "create", "sea", *words).code == 0
    store = cli.api.store
    pool = find_pool(store, "sea")
    slow = StartFailure(kind=TroubleKind.PASSING, reason=Reason.IMAGE_PULL, note="i/o timeout")
    now = cli.api.clock.now
    red = ImageDefinition(
        pool_id=pool.id,
        image="registry.example/red:1",
        made_from=pool.task_definition or "",
        task_definition="red:2",
        used_at=now,
    )
    taken = [Spent(month=month_of(now), seconds=5400, spot=False, runs=2)]
    taken.append(Spent(month=month_of(now), seconds=600, spot=True, runs=1))
    store.commit(Create(red.troubled(slow, now, b"ab")))
    for spent in taken:
        store.commit(Count(pool.id, 0, spent=spent))
    shown = cli("pool", "show", "sea").out
    assert "registry.example/*" in shown
    assert "arm64" in shown
    assert f"2 tasks, 1h40m, 10m of it on Spot; 3 runs, some {3 * CALLS_OF_A_RUN} calls of AWS for them" in shown
    assert "failed 1 times in a row" in next(line for line in shown.splitlines() if "registry.example/red:1" in line)
    assert cli("pool", "show", "sea", "--json").json["images"][0]["trouble"]["note"] == "i/o timeout"


def test_a_pool_is_changed_by_what_is_said_and_by_nothing_else(cli: Cli, key: Path) -> None:
    words = ["--kind", "fargate", "--key", str(key), "--cpu", "512", "--memory", "1024"]
    assert cli("pool", "create", "sea", *words).code == 0
    ended = cli("pool", "change", "sea", "--image", "team/worker:2", "--max-workers", "4", "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["image"], ended.json["cpu"], ended.json["settings"]["max_workers"]) == ("team/worker:2", 512, 4)
    assert ended.json["settings"]["run_timeout"] == "1h10m"
    assert "team/worker:2" in cli("pool", "change", "sea", "--lease", "4m").out
    nothing = cli("pool", "change", "sea")
    assert (nothing.code, nothing.out) == (2, "")
    assert "say what is to change" in nothing.err
    refused = cli("pool", "change", "sea", "--cpu", "4096")
    assert refused.code == 2
    assert "memory: found 1024" in refused.err
    again = cli("pool", "change", "sea", "--reset", "image", "--reset", "task-role", "--cpu", "256", "--json")
    assert again.code == 0, again.err
    assert (again.json["image"], again.json["cpu"], again.json["memory"]) == (None, 256, 1024)
    both = cli("pool", "change", "sea", "--image", "team/worker:3", "--reset", "image")
    assert (both.code, both.err) == (2, "quaymaster: --reset image, and another one: say one of them\n")
