"""Which image a run has, when it is pulled, and how far a pull has come."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from quaymaster.domain.messages import ImageRule, ImageUsed
from quaymaster.domain.states import Reason
from quaymaster_worker.configuration.docker_options import DockerOptions, Pull
from quaymaster_worker.containers.engine import Engine
from quaymaster_worker.containers.images import Images, Progress, choose_image, is_pulled
from quaymaster_worker.errors import EngineRefused, EngineUnreachable, PreparationFailed

from tests.unit.worker.test_protocol import assignment

POOL = ImageUsed(name="pool:1", rule=ImageRule.POOL)
HOST = DockerOptions(default_image="host:1", default_ansible_image="ansible:1")


@pytest.mark.parametrize(
    ("named", "options", "expected"),
    [
        ({"image": "own:1", "default_image": POOL}, HOST, ("own:1", "request")),
        ({"default_image": POOL}, HOST, ("host:1", "launcher")),
        ({"default_image": POOL, "tool": "terraform"}, HOST, ("host:1", "launcher")),
        ({"default_image": POOL, "tool": "ansible"}, HOST, ("ansible:1", "launcher")),
        ({"default_image": POOL, "tool": "ansible"}, DockerOptions(default_image="host:1"), ("pool:1", "pool")),
        ({"default_image": POOL}, DockerOptions(), ("pool:1", "pool")),
    ],
)
def test_who_names_the_image(named: Mapping[str, Any], options: DockerOptions, expected: tuple[str, str]) -> None:
    found = choose_image(assignment().model_copy(update=named), options)
    assert (found.name, found.rule) == expected


def test_a_run_for_which_nobody_names_one_fails_with_all_that_could() -> None:
    with pytest.raises(PreparationFailed, match="QUAYMASTER_DEFAULT_ANSIBLE_RUNNER_IMAGE of this host") as failed:
        choose_image(assignment().model_copy(update={"tool": "ansible"}), DockerOptions(default_image="a"))
    assert failed.value.reason is Reason.IMAGE_PULL


@pytest.mark.parametrize(
    ("image", "pulled"),
    [("tool", True), ("tool:latest", True), ("tool:1", False), ("host:5000/tool", True), ("t@sha256:0", False)],
)
def test_what_is_pulled_although_it_is_there(image: str, pulled: bool) -> None:
    assert is_pulled(image, None) is pulled
    assert is_pulled(image, Pull.ALWAYS)
    assert not is_pulled(image, Pull.MISSING)


class FakeEngine:
    """Has an image or not, and answers pulls as it is told."""

    def __init__(self, *answers: Exception | None, there: bool = False) -> None:
        self.answers = list(answers)
        self.there = there
        self.pulls = 0

    async def has_image(self, image: str) -> bool:
        return self.there

    def pull(self, image: str) -> Iterator[Mapping[str, Any]]:
        self.pulls += 1
        answer = self.answers.pop(0) if self.answers else None
        if answer:
            raise answer
        yield {"status": "Pull complete", "id": "a"}


def bring(engine: FakeEngine, pull: Pull | None = None, seconds: float = 30) -> list[str]:
    said: list[str] = []

    async def scenario() -> None:
        images = Images(cast("Engine", engine), pull, asyncio.get_running_loop().time)
        await images.bring("tool:1", said.append, seconds)

    asyncio.run(scenario())
    return said


def test_what_may_pass_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quaymaster_worker.containers.images.FIRST_PAUSE", 0.01)
    engine = FakeEngine(EngineUnreachable("no socket"), EngineRefused(500, "dial tcp: i/o timeout"))
    said = bring(engine)
    assert engine.pulls == 3
    assert said[1] == "the container engine does not answer: no socket; tried again in 0.01 s"
    assert said[3] == "image tool:1: dial tcp: i/o timeout; tried again in 0.02 s"
    assert said[-1].startswith("image tool:1 is here, after ")


def test_what_will_not_pass_is_not_tried_again() -> None:
    engine = FakeEngine(EngineRefused(404, "pull access denied for tool, repository does not exist"))
    with pytest.raises(PreparationFailed, match="pull access denied") as failed:
        bring(engine)
    assert (failed.value.reason, engine.pulls) == (Reason.IMAGE_PULL, 1)


def test_at_the_deadline_it_is_given_up_with_the_last_words() -> None:
    engine = FakeEngine(*[EngineRefused(500, "connection refused")] * 9)
    with pytest.raises(PreparationFailed, match="connection refused"):
        bring(engine, seconds=0.5)
    assert engine.pulls == 1


def test_one_that_is_here_serves_where_it_cannot_be_pulled_anew() -> None:
    engine = FakeEngine(EngineRefused(500, "no such host"), there=True)
    assert bring(engine, Pull.ALWAYS)[-1].endswith("the one that is here is used: no such host")
    assert bring(FakeEngine(there=True)) == []


def test_progress_is_told_in_layers_and_bytes() -> None:
    progress = Progress()
    for line in (
        {"status": "Pulling from library/tool", "id": "1"},
        {"status": "Pulling fs layer", "id": "a"},
        {"status": "Already exists", "id": "b"},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 500_000, "total": 2_000_000}},
    ):
        progress.see(line)
    assert str(progress) == "1 of 2 layers, 0.5 of 2.0 MB"
    progress.see({"status": "Download complete", "id": "a", "progressDetail": {}})
    progress.see({"status": "Pull complete", "id": "a", "progressDetail": {}})
    assert str(progress) == "2 of 2 layers, 2.0 of 2.0 MB"
