"""State files: several agents share a host, and the next one removes what a crashed one left."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from quaymaster.domain.messages import Remains
from quaymaster_worker.processes.leftovers import StateFile, remove_leftovers
from quaymaster_worker.processes.marks import Identified, Mark, find, identify, kill_marked, marked
from quaymaster_worker.workspace.folders import StateFolder, WorkFolder, remove_folder

RUN = f"leftover-{os.getpid()}"
LEFT = Remains(worker_id="ns.P.W", run=RUN, attempt=2)


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    made = StateFolder(tmp_path)
    made.make()
    return made


@pytest.fixture
def survivor() -> Iterator[subprocess.Popen[bytes]]:
    environment = {"PATH": os.defpath, "QUAYMASTER_RUN": RUN, "QUAYMASTER_ATTEMPT": "2"}
    process = subprocess.Popen(["sh", "-c", "setsid sleep 300 & sleep 300"], env=environment, start_new_session=True)
    # For a moment a program that has just started shows no environment: whoever looks then would miss it.
    end = time.monotonic() + 30
    while len(marked(Mark(RUN, 2))) < 3:
        assert time.monotonic() < end
        time.sleep(0.01)
    yield process
    asyncio.run(kill_marked(Mark(RUN, 2)))
    process.wait()


def crashed(folder: StateFolder, pids: list[int]) -> WorkFolder:
    """An agent's state as it is after the agent's death: the lock goes with the descriptor."""
    work = folder.attempt(RUN, 2, "W")
    work.make()
    state = StateFile.create(folder, "crashed")
    state.hold("ns.P.W", RUN, 2, work.root)
    state.name_processes("ns.P.W", pids)
    os.close(state.descriptor)
    return work


def remains(folder: StateFolder, name: str = "next") -> tuple[StateFile, list[Remains]]:
    mine = StateFile.create(folder, name)
    return mine, asyncio.run(remove_leftovers(folder, mine))


def test_processes_and_folder_of_a_crashed_agent_are_removed_and_told(
    folder: StateFolder, survivor: subprocess.Popen[bytes]
) -> None:
    work = crashed(folder, [survivor.pid])
    mine, told = remains(folder)
    assert told == [LEFT]
    assert survivor.wait(60) == -9
    assert marked(Mark(RUN, 2)) == []
    assert not work.root.exists()
    assert [path.name for path in folder.agents.iterdir()] == ["next.json"]
    os.close(mine.descriptor)


def test_what_was_removed_is_told_until_it_was_reported(folder: StateFolder) -> None:
    crashed(folder, [])
    second, _ = remains(folder, "second")
    os.close(second.descriptor)
    third, told = remains(folder, "third")
    assert told == [LEFT]
    third.reported()
    third.close()
    fourth, told = remains(folder, "fourth")
    assert told == []
    fourth.close()
    assert list(folder.agents.iterdir()) == []


def test_a_living_agents_state_is_left_alone(folder: StateFolder, survivor: subprocess.Popen[bytes]) -> None:
    living = StateFile.create(folder, "living")
    living.hold("ns.P.W", RUN, 2, folder.work / "x")
    mine, told = remains(folder)
    assert told == []
    assert survivor.poll() is None
    mine.close()
    living.forget("ns.P.W")
    living.close()


def test_another_process_with_the_same_number_is_not_taken_for_the_old_one(
    survivor: subprocess.Popen[bytes],
) -> None:
    identified = identify(survivor.pid)
    assert identified
    assert find(identified) is not None
    assert find(Identified(identified.pid, identified.started - 5)) is None


def test_an_unreadable_state_file_is_put_away(folder: StateFolder) -> None:
    (folder.agents / "broken.json").write_text('{"entries": [{"wor')
    mine, told = remains(folder)
    assert told == []
    assert [path.name for path in folder.agents.iterdir()] == ["next.json"]
    mine.close()


def test_a_work_folder_that_nobody_names_is_removed_and_a_living_agents_is_not(folder: StateFolder) -> None:
    stray, used = folder.attempt("STRAY", 1, "W"), folder.attempt("USED", 1, "W")
    living = StateFile.create(folder, "living")
    living.hold("ns.P.W", "USED", 1, used.root)
    stray.make()
    used.make()
    mine, _ = remains(folder)
    assert (stray.root.exists(), used.root.exists()) == (False, True)
    mine.close()
    living.close()


def test_a_folder_made_ahead_becomes_the_next_attempts_and_is_nobodys_leftover(folder: StateFolder) -> None:
    living = StateFile.create(folder, "living")
    assert living.spare
    living.spare.make_ahead()
    living.spare.make_ahead()
    mine, _ = remains(folder)
    assert living.spare.root.exists()
    work = folder.attempt("R", 1, "W")
    work.make(living.spare)
    assert not living.spare.root.exists()
    ahead = sorted((path.name, path.stat().st_mode & 0o777) for path in work.root.rglob("*"))
    work.make(living.spare)
    assert ahead == sorted((path.name, path.stat().st_mode & 0o777) for path in work.root.rglob("*"))
    assert ahead == [
        ("home", 0o700), ("log.spool", 0o600), ("phase", 0o700), ("tmp", 0o700), ("workspace", 0o700),
    ]  # fmt: skip
    living.spare.make_ahead()
    living.close()
    mine.close()
    assert [path.name for path in folder.work.iterdir()] == [work.root.name]


def test_a_dead_agents_folder_made_ahead_is_removed(folder: StateFolder) -> None:
    dead = StateFile.create(folder, "dead")
    assert dead.spare
    dead.spare.make_ahead()
    os.close(dead.descriptor)
    mine, _ = remains(folder)
    assert not dead.spare.root.exists()
    mine.close()


def test_a_folder_that_can_be_made_ahead_only_in_part_is_not_there(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    spare = folder.spare("mine")
    with pytest.raises(OSError, match="No space"):
        spare.make_ahead()
    assert not spare.root.exists()


def test_a_folder_whose_owner_locked_it_is_removed_all_the_same(tmp_path: Path) -> None:
    locked = tmp_path / "work" / "locked"
    locked.mkdir(parents=True)
    (locked / "file").write_text("x")
    locked.chmod(0)
    remove_folder(tmp_path / "work")
    assert not (tmp_path / "work").exists()


START = """
import asyncio, sys
from pathlib import Path
from quaymaster_worker.workspace.folders import StateFolder
from quaymaster_worker.processes.leftovers import StateFile, remove_leftovers
folder = StateFolder(Path(sys.argv[1]))
mine = StateFile.create(folder, sys.argv[2])
print(len(asyncio.run(remove_leftovers(folder, mine))), flush=True)
sys.stdin.read()
mine.reported()
mine.close()
"""


def test_agents_that_start_together_after_a_kill_all_start_and_one_takes_each_leftover_over(
    folder: StateFolder,
) -> None:
    for turn in range(3):
        for number in range(6):
            work = folder.attempt(f"{RUN}-{turn}-{number}", 2, "W")
            work.make()
            state = StateFile.create(folder, f"crashed-{turn}-{number}")
            state.hold("ns.P.W", f"{RUN}-{turn}-{number}", 2, work.root)
            os.close(state.descriptor)
        command = [sys.executable, "-c", START, str(folder.root)]
        agents = [
            subprocess.Popen(
                [*command, f"agent-{turn}-{number}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(8)
        ]
        told = [agent.stdout.readline() if agent.stdout else "" for agent in agents]
        errors = [agent.communicate()[1] for agent in agents]
        assert not [error for error in errors if "Traceback" in error]
        assert [agent.returncode for agent in agents] == [0] * 8
        assert sum(map(int, told)) == 6
        assert list(folder.work.iterdir()) == []
        assert list(folder.agents.iterdir()) == []


def test_a_file_between_its_creation_and_its_lock_is_nobodys_leftover(folder: StateFolder) -> None:
    """Whoever finds it then would take it for a dead agent's."""
    half = folder.agents / "another.new"
    half.write_bytes(b"")
    mine, told = remains(folder)
    assert told == []
    assert half.exists()
    os.close(mine.descriptor)


REMOVE = """
import os, sys
from pathlib import Path
from quaymaster_worker.workspace.folders import remove_folder
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
root = Path(sys.argv[1]) / "state" / "work"
(root / "a" / "b" / "c").mkdir(parents=True)
(root / "a" / "b" / "c" / "file").write_text("x")
(root / "open").mkdir()
(root / "open" / "file").write_text("x")
for folder, mode in (("a/b/c", 0), ("a/b", 0), ("a", 0), ("open", 0o500), (".", 0)):
    os.chmod(root / folder, mode)
remove_folder(root)
print(root.exists())
"""


def test_folders_that_are_closed_at_every_depth_are_removed_by_an_agent_that_is_not_root() -> None:
    """Root enters everything; whoever is not root is the folders' owner."""
    with tempfile.TemporaryDirectory() as outside:
        os.chmod(outside, 0o777)
        ended = subprocess.run([sys.executable, "-c", REMOVE, outside], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("False\n", "")


def test_the_folder_of_an_attempt_that_begins_meanwhile_stays(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another agent names its folder before it makes it; one who looks in between must not take it for a stray."""
    other = StateFile.create(folder, "other")
    work = folder.attempt(RUN, 3, "W")
    read = Path.read_bytes

    def reading(path: Path) -> bytes:
        found = read(path)
        if path == other.path and not work.root.exists():
            other.hold("ns.P.W", RUN, 3, work.root)
            work.make()
        return found

    monkeypatch.setattr(Path, "read_bytes", reading)
    mine, _ = remains(folder)
    assert work.root.exists()
    for state in (mine, other):
        os.close(state.descriptor)
