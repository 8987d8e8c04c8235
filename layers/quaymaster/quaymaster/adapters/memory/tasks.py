"""ECS in memory: tasks that are names only. Tests end them, and make the service fail."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from quaymaster.domain.pool import Launch, Pool
from quaymaster.errors import QuaymasterError, Refused, Unavailable
from quaymaster.ports import Started, TaskSettings

CLUSTER = "arn:aws:ecs:us-east-1:000000000000:task/quaymaster"


@dataclass(frozen=True, kw_only=True)
class MemoryTask:
    """A task that was started; `running_since` when its container was; `stopped` says why it is no more."""

    arn: str
    launch_id: str
    task_definition: str
    spot: bool = False
    running_since: datetime | None = None
    stopped: str | None = None


@dataclass
class MemoryTasks:
    """Fulfils `ports.Tasks`.

    `capacity` tasks can run at once, and `spot_capacity` of them on Spot; a RunTask beyond that starts what fits and
    names the rest as failures. `error` is raised by the next call of `run`, after the tasks have started if
    `answer_lost` is set. While `down` is set, every call fails. `images` are the definitions that were made for one,
    `image_errors` what is raised instead; `retired` are run no more; `old` are old enough for that (`age`).
    `asked` counts the calls by name.
    """

    namespace: str = "quaymaster"
    capacity: int = 1_000_000
    spot_capacity: int = 1_000_000
    down: str | None = None
    error: QuaymasterError | None = None
    answer_lost: bool = False
    tasks: dict[str, MemoryTask] = field(default_factory=dict[str, MemoryTask])
    defined: dict[str, TaskSettings] = field(default_factory=dict[str, TaskSettings])
    images: dict[str, str] = field(default_factory=dict[str, str])
    image_errors: dict[str, QuaymasterError] = field(default_factory=dict[str, QuaymasterError])
    retired: set[str] = field(default_factory=set[str])
    old: set[str] = field(default_factory=set[str])
    calls: int = 0
    asked: Counter[str] = field(default_factory=Counter[str])
    _answers: dict[str, Started] = field(default_factory=dict[str, Started])

    def run(self, launch: Launch, pool: Pool) -> Started:
        self._answer("run")
        self.calls += 1
        error, self.error = self.error, None
        if error and not self.answer_lost:
            raise error
        if launch.task_definition in self.retired:
            raise Refused("task definition", launch.task_definition, "one that is not retired")
        # The token alone decides: with other parameters ECS answers a conflict that names the same tasks.
        started = self._answers.get(launch.token) or self._start(launch)
        if error:
            raise error
        return started

    def stop(self, task_arn: str, reason: str) -> None:
        self._answer("stop")
        self.end(task_arn, reason)

    def of_launch(self, launch: Launch) -> list[str]:
        self._answer("of_launch")
        return [task.arn for task in self.running if task.launch_id == launch.id]

    def of_pool(self, pool_id: str) -> list[str]:
        self._answer("of_pool")
        own = f"/{self.namespace}-pool-{pool_id}:"
        return [task.arn for task in self.running if own in task.task_definition]

    def started_by(self, task_arns: Sequence[str]) -> dict[str, str]:
        self._answer("started_by")
        return {task.arn: task.launch_id for task in self.running if task.arn in task_arns}

    def running_since(self, task_arns: Sequence[str]) -> dict[str, datetime]:
        self._answer("running_since")
        return {task.arn: task.running_since for task in self.running if task.running_since and task.arn in task_arns}

    def check(self, image: str | None) -> None:
        self._answer("check")
        if error := self.image_errors.get(image or ""):
            raise error

    def define(self, pool_id: str, settings: TaskSettings) -> str:
        self._answer("define")
        revision = 1 + sum(arn.rpartition(":")[0].endswith(f"-pool-{pool_id}") for arn in self.defined)
        family = f"{self.namespace}-pool-{pool_id}"
        arn = f"arn:aws:ecs:us-east-1:000000000000:task-definition/{family}:{revision}"
        self.defined[arn] = settings
        return arn

    def define_image(self, task_definition: str, image: str) -> str:
        self._answer("define_image")
        if error := self.image_errors.get(image):
            raise error
        family, _, _ = task_definition.rpartition(":")
        arn = f"{family}:{len(self.images) + 1001}"
        self.images[arn] = image
        return arn

    def definitions(self, pool_id: str) -> list[str]:
        self._answer("definitions")
        own = f"/{self.namespace}-pool-{pool_id}:"
        return [arn for arn in (*self.defined, *self.images) if own in arn and arn not in self.retired]

    def retire(self, task_definition: str, younger: timedelta) -> bool:
        self._answer("retire")
        if younger and task_definition not in self.old:
            return False
        self.retired.add(task_definition)
        return True

    def age(self) -> None:
        """All definitions are old from now on."""
        self.old.update(self.defined, self.images)

    def come_up(self, task_arn: str, at: datetime) -> None:
        """Let a task run, as ECS says it: its container has started."""
        self.tasks[task_arn] = replace(self.tasks[task_arn], running_since=at)

    @property
    def running(self) -> list[MemoryTask]:
        """The tasks that have not stopped, in the order of their start."""
        return [task for task in self.tasks.values() if task.stopped is None]

    def end(self, task_arn: str, reason: str) -> None:
        """Let a task stop, as ECS or the task itself would; one that is no more stays as it was."""
        task = self.tasks.get(task_arn)
        if task and task.stopped is None:
            self.tasks[task_arn] = replace(task, stopped=reason)

    def _start(self, launch: Launch) -> Started:
        on_spot = sum(task.spot for task in self.running)
        room = self.spot_capacity - on_spot if launch.spot else launch.count
        fitting = max(0, min(launch.count, room, self.capacity - len(self.running)))
        arns: list[str] = []
        for _ in range(fitting):
            arn = f"{CLUSTER}/{len(self.tasks) + 1:032x}"
            self.tasks[arn] = MemoryTask(
                arn=arn, launch_id=launch.id, task_definition=launch.task_definition, spot=launch.spot
            )
            arns.append(arn)
        started = Started(tuple(arns), ("RESOURCE:CPU",) * (launch.count - fitting))
        if arns:
            self._answers[launch.token] = started
        return started

    def _answer(self, asked: str) -> None:
        self.asked[asked] += 1
        if self.down:
            raise Unavailable("ecs", self.down)
