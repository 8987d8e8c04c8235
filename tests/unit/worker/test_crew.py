"""What becomes of a worker's seat: users, a host that is not rid of a run, and what is tried before the first run."""

import asyncio
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import psutil
import pytest
from quaymaster_worker import crew as crew_module
from quaymaster_worker.agent import Agent
from quaymaster_worker.configuration.settings import RunUser, Settings
from quaymaster_worker.crew import Crew
from quaymaster_worker.errors import ConfigurationRefused, ExitCode
from quaymaster_worker.host import Host
from quaymaster_worker.processes.marks import Identified, identify
from quaymaster_worker.processes.process_executor import ProcessExecutor
from quaymaster_worker.processes.run_users import RunUsers
from quaymaster_worker.trial import try_out
from quaymaster_worker.workspace.folders import StateFolder

from tests.shared.passage import let_others_pass

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root chooses users")


def settings(uids: range | None, user: RunUser | None = None) -> Settings:
    return cast(Settings, SimpleNamespace(run_uids=uids, run_user=user))


# ---- Users -----------------------------------------------------------------------------------------------------------

FREE = range(2_147_400_000, 2_147_400_010)
"""Beyond what anybody gives out."""


@root_only
def test_each_worker_of_a_host_has_a_uid_of_its_own_also_across_agents(tmp_path: Path) -> None:
    one, two = RunUsers(settings(FREE), tmp_path), RunUsers(settings(FREE), tmp_path)
    first, second = one.choose(2), two.choose(3)
    uids = [user.uid for user in [*first, *second] if user]
    assert sorted(set(uids)) == list(FREE[:5])
    assert {user.name for user in first if user} == {f"quaymaster-{uid}" for uid in FREE[:2]}
    one.close()
    three = RunUsers(settings(FREE), tmp_path)
    assert [user.uid for user in three.choose(1) if user] == [FREE[0]]
    two.close()
    three.close()
    assert list(tmp_path.iterdir()) == []


@root_only
def test_a_uid_that_somebody_has_or_uses_is_not_free(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "300"], user=FREE[0]) as busy:
        users = RunUsers(settings(range(FREE[0], FREE[2])), tmp_path)
        assert [user.uid for user in users.choose(1) if user] == [FREE[1]]
        users.close()
        with pytest.raises(ConfigurationRefused, match=r"QUAYMASTER_RUN_UIDS: found .*, of which 1 are free; allowed"):
            RunUsers(settings(range(FREE[0], FREE[2])), tmp_path).choose(2)
        busy.kill()
    with pytest.raises(ConfigurationRefused, match="of which 0 are free"):
        RunUsers(settings(range(0, 2)), tmp_path).choose(1)


def test_a_chosen_user_is_one_workers(tmp_path: Path) -> None:
    user = RunUser(name="deploy", uid=1000, gid=1000)
    assert RunUsers(settings(FREE, user), tmp_path).choose(1) == [user]
    with pytest.raises(ConfigurationRefused, match="QUAYMASTER_RUN_USER: found 'deploy' for 2 workers"):
        RunUsers(settings(FREE, user), tmp_path).choose(2)
    assert RunUsers(settings(None), tmp_path).choose(2) == [None, None], "an agent that is not root"


# ---- Tried at the start ----------------------------------------------------------------------------------------------


@root_only
def test_a_state_folder_that_the_runs_user_cannot_reach_is_refused_by_name(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "state").mkdir(parents=True)
    let_others_pass(tmp_path)
    folder, user = StateFolder(closed / "state"), RunUser(name="quaymaster-x", uid=FREE[0], gid=FREE[0])
    folder.make()
    closed.chmod(0o700)
    with pytest.raises(ConfigurationRefused) as refused:
        asyncio.run(try_out(folder, ProcessExecutor(), user))
    assert f"QUAYMASTER_STATE_DIR: found {folder.root}: quaymaster-x (uid {FREE[0]}) cannot enter {closed}" in str(
        refused.value
    )
    assert list(folder.work.iterdir()) == []
    closed.chmod(0o711)
    asyncio.run(try_out(folder, ProcessExecutor(), user))
    assert list(folder.work.iterdir()) == []


def test_a_disk_without_space_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", mock.Mock(return_value=SimpleNamespace(free=4096)))
    with pytest.raises(ConfigurationRefused, match="whose disk has 4096 bytes left"):
        asyncio.run(try_out(StateFolder(tmp_path), ProcessExecutor(), None))


# ---- Seats -----------------------------------------------------------------------------------------------------------


@dataclass
class Seated:
    """An agent as far as its crew knows it."""

    worker_id: str
    not_ended: list[Identified] = field(default_factory=list[Identified])

    def __post_init__(self) -> None:
        self.left: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def use(self, _connection: object) -> None:
        """Begin."""

    def terminate(self) -> None:
        """End."""
        if not self.left.done():
            self.left.set_result(ExitCode.GOODBYE)

    async def close(self) -> None:
        """Nothing was opened."""


class Seats:
    """A crew of stand-ins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ecs: str | None = None) -> None:
        self.seated: list[Seated] = []
        self.forgotten: list[str] = []
        monkeypatch.setattr(crew_module, "Agent", self._seat)
        monkeypatch.setattr(crew_module, "FIRST_PAUSE", 0.01)
        monkeypatch.setattr(crew_module, "task_name", mock.Mock(return_value="task"))
        token = SimpleNamespace(namespace="n", pool_id="P", mqtt=[])
        nothing: dict[str, Any] = dict.fromkeys(("launch", "launcher_log_timeout", "launcher_run_timeout"))
        options = SimpleNamespace(
            token=token, metadata={}, executor="process", ecs_metadata_uri=ecs, stop_deadline=None,
            give_up_after=SimpleNamespace(total_seconds=lambda: 120), **nothing,
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        state = SimpleNamespace(forget=self.forgotten.append)
        host = SimpleNamespace(settings=options, random=None, clock=loop.time, state=state)
        self.crew = Crew(cast(Host, host), mock.Mock(), [None])
        self.work = asyncio.ensure_future(self.crew.work(()))

    def _seat(self, worker: Any, _host: object, _user: object) -> Agent:
        self.seated.append(Seated(worker.identity.worker_id))
        return cast(Agent, self.seated[-1])

    async def until(self, count: int) -> Seated:
        """The so-manieth worker."""
        async with asyncio.timeout(30):
            while len(self.seated) < count:
                await asyncio.sleep(0.005)
        return self.seated[count - 1]


def test_after_a_process_that_could_not_be_ended_a_fresh_worker_comes_once_it_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        seats = Seats(monkeypatch)
        first = await seats.until(1)
        with subprocess.Popen(["sleep", "300"]) as stuck:
            found = identify(stuck.pid)
            assert found
            first.not_ended = [found]
            first.left.set_result(ExitCode.NOT_ENDED)
            await asyncio.sleep(0.2)
            assert len(seats.seated) == 1, "nobody takes a run here"
            assert seats.forgotten == []
            stuck.kill()
        second = await seats.until(2)
        assert second.worker_id != first.worker_id
        assert seats.forgotten == [first.worker_id]
        seats.crew.terminate(signal.SIGTERM)
        assert await seats.work == ExitCode.GOODBYE

    asyncio.run(scenario())


def test_an_agent_that_waits_for_a_process_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        seats = Seats(monkeypatch)
        first = await seats.until(1)
        me = psutil.Process()
        first.not_ended = [Identified(me.pid, me.create_time())]
        first.left.set_result(ExitCode.NOT_ENDED)
        await asyncio.sleep(0.05)
        seats.crew.terminate(signal.SIGTERM)
        assert await asyncio.wait_for(seats.work, 30) == ExitCode.GOODBYE
        assert seats.forgotten == [], "the next agent looks for it again"

    asyncio.run(scenario())


def test_in_a_task_it_ends_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        seats = Seats(monkeypatch, ecs="http://x")
        first = await seats.until(1)
        assert first.worker_id == "n.P.task"
        first.left.set_result(ExitCode.NOT_ENDED)
        assert await asyncio.wait_for(seats.work, 30) == ExitCode.NOT_ENDED

    asyncio.run(scenario())
