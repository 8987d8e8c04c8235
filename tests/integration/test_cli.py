"""The installed `quaymaster` command against the deployed system: pools, runs, logs, as a user has them."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from quaymaster_local.agent import AgentProcess
from quaymaster_local.cloud import LocalCloud

QUAYMASTER = str(Path(sys.executable).with_name("quaymaster"))
TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Shell:
    """A terminal session of a user of the local cloud."""

    cloud: LocalCloud
    folder: Path

    def __call__(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run `quaymaster`."""
        command = [QUAYMASTER, *words]
        return subprocess.run(
            command,
            env=self.environment(**more),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of this process but PATH."""
        own = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "TMPDIR": tempfile.gettempdir()}
        return {**own, **self.cloud.env(), **more}

    def json(self, *words: str) -> Any:
        """What a command that succeeds prints with --json."""
        ended = self(*words[:2], "--json", *words[2:])
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def popen(self, *words: str) -> subprocess.Popen[str]:
        """Start `quaymaster` and go on."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([QUAYMASTER, *words], env=self.environment(), cwd=self.folder, **pipes)


@pytest.fixture(scope="module")
def shell(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(cloud, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def pool(shell: Shell, cloud: LocalCloud) -> Iterator[str]:
    """A private pool with two workers, made as a user makes it."""
    name = f"cli-{time.time_ns()}"
    made = shell("pool", "create", name, "--key", "pool.pem", "--token-file", "pool.token", "--stop-grace", "1s")
    assert made.returncode == 0, made.stderr
    token, key = ((shell.folder / file).read_text() for file in ("pool.token", "pool.pem"))
    agent: AgentProcess = cloud.start_agent(token, key, count=2, env={"QUAYMASTER_METADATA_host": "h1"})
    end = time.monotonic() + 60
    while shell.json("pool", "show", name)["counts"]["idle"] < 2:
        assert time.monotonic() < end, shell("worker", "list", "--pool", name).stdout
        time.sleep(0.3)
    yield name
    agent.close()


@dataclass(frozen=True)
class Gate:
    """Where a command waits until the test lets it go on; `wait` is what the command does there."""

    file: Path

    @property
    def wait(self) -> str:
        return f"while [ ! -e {self.file} ]; do sleep 0.1; done"

    def open(self) -> None:
        self.file.touch()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """In a folder that commands of any user get through to."""
    with tempfile.TemporaryDirectory(prefix="quaymaster-gate-") as folder:
        Path(folder).chmod(0o711)
        yield Gate(Path(folder) / "open")


def test_a_pool_and_its_workers_are_seen(shell: Shell, pool: str) -> None:
    rows = [line.split("\t") for line in shell("pool", "list").stdout.splitlines()]
    assert [row[1:4] for row in rows if row[0] == pool] == [["private", "2", "0"]]
    workers = shell.json("worker", "list", "--pool", pool)["workers"]
    assert [(one["state"], one["metadata"]) for one in workers] == [("IDLE", {"host": "h1"})] * 2


def test_a_followed_run_prints_its_log_and_exits_with_its_code(shell: Shell, pool: str) -> None:
    script = 'echo "first $A"; sleep 2; echo second >&2; exit 7'
    ended = shell("run", "start", "--pool", pool, "--follow", "--env", "A=b", "--", "sh", "-c", script)
    assert ended.returncode == 7, ended.stderr
    assert [line for line in ended.stdout.splitlines() if line in ("first b", "second")] == ["first b", "second"]
    assert "is FAILED (exit_code)" in ended.stderr


def test_the_log_comes_while_the_run_goes_on(shell: Shell, pool: str, gate: Gate) -> None:
    script = f"echo early; {gate.wait}; echo late"
    with shell.popen("run", "start", "--pool", pool, "--follow", "--", "sh", "-c", script) as following:
        assert following.stdout
        assert following.stdout.readline() == "early\n"
        gate.open()
        assert following.stdout.readline() == "late\n"
        assert following.wait(120) == 0


def test_a_run_is_shown_and_its_log_read_afterwards(shell: Shell, pool: str) -> None:
    started = shell("run", "start", "--pool", pool, "--id", "odd/id %1", "--", "sh", "-c", "echo hello")
    assert started.returncode == 2, "an id has no spaces"
    run = shell("run", "start", "--pool", pool, "--id", "odd/id%1", "--", "sh", "-c", "echo hello").stdout.strip()
    again = shell.json("run", "start", "--pool", pool, "--id", "odd/id%1", "--", "sh", "-c", "echo hello")
    assert again["run"] == run
    end = time.monotonic() + 60
    while shell("run", "show", run, "--json").stdout.find('"FINISHED"') < 0:
        assert time.monotonic() < end
        time.sleep(0.3)
    shown = shell.json("run", "show", "--pool", pool, "odd/id%1")
    assert (shown["run"], shown["state"], shown["exit_code"], shown["attempt"]) == (run, "FINISHED", 0, 1)
    bucket, key = shown["log"]["bucket"], shown["log"]["key"]
    assert shell.cloud.client("s3").head_object(Bucket=bucket, Key=key)["ContentLength"] > 0
    assert f"s3://{bucket}/{key}" in shell("run", "show", run).stdout
    logs = shell("run", "logs", run)
    assert (logs.returncode, logs.stdout) == (0, "hello\n")
    assert shell("run", "logs", "-f", "--pool", pool, "odd/id%1").stdout == "hello\n"
    assert shell("run", "why", run).stdout == "FINISHED: it ended as FINISHED, exit code 0\n"
    assert run in shell("run", "list", "--pool", pool, "--state", "FINISHED").stdout


def test_a_folder_travels_as_the_workspace_with_an_environment_too_large_for_a_message(
    shell: Shell, pool: str, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "count.sh"
    script.write_text("#!/bin/sh\necho ${#N0} ${#N1} ${#N2} $SMALL; cat data; find . -type f | sort\n")
    script.chmod(0o755)
    (tmp_path / "data").write_text("from the folder\n")
    large = [word for number in range(3) for word in ("--env", f"N{number}={'v' * 30_000}")]
    ended = shell("run", "start", "--pool", pool, "--dir", str(tmp_path), "--env", "SMALL=s", *large,
                  "--follow", "--", "bin/count.sh")  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["30000 30000 30000 s", "from the folder", "./bin/count.sh", "./data"]


def test_a_run_that_goes_silent_exits_with_124(shell: Shell, pool: str) -> None:
    ended = shell("run", "start", "--pool", pool, "--log-timeout", "2s", "--follow", "--", "sleep", "60")
    assert ended.returncode == 124, ended.stderr
    assert "(log_timeout)" in ended.stderr


def test_ctrl_c_stops_following_and_not_the_run(shell: Shell, pool: str, gate: Gate) -> None:
    run = shell("run", "start", "--pool", pool, "--", "sh", "-c", f"echo begun; {gate.wait}; echo over")
    run = run.stdout.strip()
    with shell.popen("run", "logs", "-f", run) as following:
        assert following.stdout
        assert following.stdout.readline() == "begun\n"
        following.send_signal(signal.SIGINT)
        _, err = following.communicate(timeout=120)
        assert (following.returncode, err.splitlines()[-1]) == (
            130,
            "quaymaster: interrupted; what was started goes on",
        )
    gate.open()
    assert shell("run", "logs", "-f", run).stdout == "begun\nover\n"
    assert shell.json("run", "show", run)["state"] == "FINISHED"


@dataclass
class Terminal:
    """A terminal of its own, with a command in its foreground: there Ctrl-C is a key."""

    keyboard: int
    process: subprocess.Popen[bytes]
    seen: str = ""

    def read_until(self, text: str) -> None:
        """Read what appears until this is in it."""
        end = time.monotonic() + TIMEOUT_SECONDS
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if not select.select([self.keyboard], [], [], 0.2)[0]:
                assert self.process.poll() is None, self.seen
                continue
            try:
                self.seen += os.read(self.keyboard, 65_536).decode(errors="replace")
            except OSError:
                # The command has closed its side.
                assert text in self.seen, self.seen

    def press(self, keys: bytes) -> None:
        """Press keys; what was seen before is read no more."""
        self.seen = ""
        os.write(self.keyboard, keys)


@contextmanager
def terminal(shell: Shell, *words: str) -> Generator[Terminal]:
    """A command that is ended if it does not end by itself."""
    keyboard, screen = pty.openpty()
    process = subprocess.Popen(
        [QUAYMASTER, *words],
        env=shell.environment(TERM="dumb"),
        cwd=shell.folder,
        preexec_fn=lambda: os.login_tty(os.dup(screen)),
        pass_fds=[screen],
    )
    os.close(screen)
    try:
        yield Terminal(keyboard, process)
    finally:
        process.kill()
        process.wait()
        os.close(keyboard)


CTRL_C = b"\x03"
SLEEPS = ("sh", "-c", "echo begun; while :; do sleep 0.1; done")


def followed_in_terminal(shell: Shell, pool: str, name: str, *options: str) -> AbstractContextManager[Terminal]:
    return terminal(shell, "run", "start", "--pool", pool, "--id", name, "--follow", *options, "--", *SLEEPS)


def test_ctrl_c_in_a_terminal_asks_and_stops_the_run(shell: Shell, pool: str) -> None:
    name = f"stopped-{time.time_ns()}"
    with followed_in_terminal(shell, pool, name) as screen:
        screen.read_until("begun\r\n")
        screen.press(CTRL_C)
        screen.read_until("stop the run? (y: stop it, n: only stop following it) [y/N]")
        screen.press(b"y\n")
        screen.read_until("is STOPPED (by_user)")
        assert screen.process.wait(TIMEOUT_SECONDS) == 125
    assert shell.json("run", "show", name)["state"] == "STOPPED"


@pytest.mark.parametrize("keys", [b"n\n", b"\n", CTRL_C])
def test_ctrl_c_in_a_terminal_may_only_stop_following(shell: Shell, pool: str, keys: bytes) -> None:
    name = f"left-{time.time_ns()}"
    with followed_in_terminal(shell, pool, name) as screen:
        screen.read_until("begun\r\n")
        screen.press(CTRL_C)
        screen.read_until("stop the run?")
        screen.press(keys)
        screen.read_until("interrupted; what was started goes on")
        assert screen.process.wait(TIMEOUT_SECONDS) == 130
    shown = shell.json("run", "show", name)
    assert (shown["state"], shown["ending"]) == ("RUNNING", None)
    assert shell("run", "kill", name).returncode == 0


def test_what_ctrl_c_does_can_be_said_before(shell: Shell, pool: str) -> None:
    name = f"said-{time.time_ns()}"
    with followed_in_terminal(shell, pool, name, "--on-interrupt", "stop") as screen:
        screen.read_until("begun\r\n")
        screen.press(CTRL_C)
        screen.read_until("is STOPPED (by_user)")
        assert "stop the run?" not in screen.seen
    assert shell.json("run", "show", name)["state"] == "STOPPED"


def until_it_runs(shell: Shell, run: str) -> None:
    end = time.monotonic() + TIMEOUT_SECONDS
    while not shell("run", "why", run).stdout.startswith("RUNNING"):
        assert time.monotonic() < end


def test_runs_are_steered_from_the_command_line(shell: Shell, pool: str) -> None:
    run = shell("run", "start", "--pool", pool, "--", *SLEEPS).stdout.strip()
    until_it_runs(shell, run)
    refused = shell("run", "cancel", run)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "stop this one, or kill it" in refused.stderr
    assert shell.json("run", "extend", run, "--by", "10m")["run_timeout"] == "1h20m"
    assert shell("run", "stop", run, "--note", "seen enough").stdout == f"{run} RUNNING, being ended as by_user\n"
    assert shell("run", "logs", "-f", run).returncode == 0
    shown = shell.json("run", "show", run)
    assert (shown["state"], shown["note"]) == ("STOPPED", "stopped by root: seen enough")
    again = shell("run", "retry", run).stdout.strip()
    until_it_runs(shell, again)
    assert shell.json("run", "show", run)["retried_as"] == again
    assert shell("run", "kill", again).returncode == 0


def test_a_run_nobody_takes_says_why(shell: Shell) -> None:
    name = f"empty-{time.time_ns()}"
    assert shell("pool", "create", name, "--key", "pool.pem", "--token-file", f"{name}.token").returncode == 0
    run = shell("run", "start", "--pool", name, "--", "true").stdout.strip()
    end = time.monotonic() + 60
    while (why := shell("run", "why", run)).returncode:
        assert time.monotonic() < end, why.stderr
    assert why.stdout == (
        f"READY: it is number 1 in the queue: no worker of pool {name} is connected; "
        "start quaymaster-agent with its token and key\n"
    )


def test_a_fargate_pools_key_lies_in_the_users_account_and_its_task_runs(shell: Shell, cloud: LocalCloud) -> None:
    name = f"sea-{time.time_ns()}"
    made = shell.json("pool", "create", name, "--kind", "fargate", "--max-workers", "2", "--cpu", "512",
                      "--memory", "1024", "--idle-timeout", "5s")  # fmt: skip
    ssm = cloud.client("ssm")
    kinds = {
        parameter: ssm.get_parameter(Name=parameter)["Parameter"]["Type"]
        for parameter in (made["token_parameter"], made["key_parameter"])
    }
    assert set(kinds.values()) == {"SecureString"}
    definition = cloud.ecs().describe_task_definition(taskDefinition=made["pool"]["task_definition"])["taskDefinition"]
    assert (definition["cpu"], definition["memory"]) == ("512", "1024")
    secrets = {one["valueFrom"] for one in definition["containerDefinitions"][0]["secrets"]}
    assert {secret[secret.index("/quaymaster/") :] for secret in secrets} == set(kinds)
    ended = shell("run", "start", "--pool", name, "--follow", "--", "sh", "-c", "echo from a task")
    assert (ended.returncode, ended.stdout) == (0, "from a task\n"), ended.stderr


def test_the_deployment_is_found_by_its_stacks_name(shell: Shell, cloud: LocalCloud) -> None:
    ended = shell("pool", "list", "--stack-name", "no-such-stack", QUAYMASTER_API_URL="")
    assert (ended.returncode, "no stack 'no-such-stack' in us-east-1" in ended.stderr) == (1, True), ended.stderr


def test_who_may_not_is_told_so_in_a_line(shell: Shell) -> None:
    ended = shell("pool", "list", AWS_ACCESS_KEY_ID="AKIANOBODY", AWS_SECRET_ACCESS_KEY="wrong")
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "403" in ended.stderr


def test_a_refused_request_lies_among_the_dead_letters_with_its_field(
    shell: Shell, cloud: LocalCloud, pool: str
) -> None:
    body = json.dumps({"id": "bad-one", "pool": pool, "command": [], "environment": {"PASSWORD": "hunter2"}})
    cloud.client("sqs").send_message(QueueUrl=cloud.outputs["RequestQueueUrl"], MessageBody=body)
    end = time.monotonic() + 60
    while not (mine := [one for one in letters(shell) if one["request_id"] == "bad-one"]):
        assert time.monotonic() < end
        time.sleep(0.5)
    assert mine[0]["reason"].startswith("command: ")
    assert "hunter2" not in json.dumps(mine)
    assert "bad-one" in shell("dead-letters", "list").stdout


def letters(shell: Shell) -> list[dict[str, Any]]:
    """The dead letters."""
    return shell.json("dead-letters", "list")["dead_letters"]
