"""The commands of an attempt, phase by phase, as orders to its executor."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from quaymaster.domain.messages import Assign, ImageUsed, Outcome, PhaseOrder

from quaymaster_worker.configuration.settings import RunUser
from quaymaster_worker.executor import Executor, Order
from quaymaster_worker.phase.environment import is_read_only, phase_environment
from quaymaster_worker.phase.phase import Step
from quaymaster_worker.workspace.folders import WorkFolder
from quaymaster_worker.workspace.spec import check_fits

ON_END = "on_end"


class Orders:
    """What an attempt runs. `packed` is the environment that its workspace brought along."""

    def __init__(
        self,
        assign: Assign,
        packed: Mapping[str, str],
        folder: WorkFolder,
        user: RunUser | None,
        cgroup: Path | None,
        executor: Executor,
        *,
        image: ImageUsed | None,
        task_role: Mapping[str, str],
    ) -> None:
        self._assign = assign.model_copy(update={"environment": {**packed, **assign.environment}})
        self._folder = folder
        self._user = user
        self._cgroup = cgroup
        self._executor = executor
        self._image = image
        self._task_role = task_role
        self.phases: Sequence[PhaseOrder] = assign.phases or [
            PhaseOrder(
                name=assign.phase,
                command=assign.command,
                log_timeout_seconds=assign.log_timeout_seconds,
                run_timeout_seconds=assign.run_timeout_seconds,
            )
        ]

    def check(self) -> None:
        """Raises PreparationFailed for what the system cannot pass to a command."""
        for phase in self.phases:
            for step in self.steps(phase):
                check_fits(step.order.command, step.order.environment)

    @property
    def names(self) -> set[str]:
        """The variables that the request gives, in whatever phase."""
        phases = (name for phase in self.phases for name in phase.environment)
        return {*self._assign.environment, *phases}

    def values_of(self, names: Sequence[str]) -> set[str]:
        """What these variables hold in any of the phases."""
        seen = [self._environment(phase) for phase in self.phases]
        return {environment[name] for environment in seen for name in names if name in environment}

    def steps(self, phase: PhaseOrder) -> list[Step]:
        """The commands of a phase, in order."""
        environment, read_only = self._environment(phase), is_read_only(self._assign, phase)

        def order(command: Sequence[str]) -> Order:
            return self._order(command, environment, read_only=read_only)

        return [
            *(Step(order(command), hook=True) for command in phase.before),
            Step(order(phase.command)),
            *(Step(order(command), hook=True) for command in phase.after),
        ]

    def on_end(self, outcome: Outcome) -> list[Step]:
        """The commands that are run as the run ends; they see how."""
        read_only = all(is_read_only(self._assign, phase) for phase in self.phases)
        phase = PhaseOrder(name=ON_END, read_only=read_only, log_timeout_seconds=0, run_timeout_seconds=0)
        how = {"QUAYMASTER_STATE": outcome.end, "QUAYMASTER_REASON": outcome.reason or ""}
        environment = {**self._environment(phase), **how}
        return [Step(self._order(command, environment, read_only=read_only)) for command in self._assign.on_end]

    def _environment(self, phase: PhaseOrder) -> Mapping[str, str]:
        return phase_environment(
            self._assign,
            phase,
            self._executor.places(self._folder),
            self._user,
            passed=self._executor.passed(read_only=is_read_only(self._assign, phase)),
            task_role=self._task_role,
        )

    def _order(self, command: Sequence[str], environment: Mapping[str, str], *, read_only: bool) -> Order:
        return Order(
            command=command,
            environment=environment,
            folder=self._folder.workspace,
            user=self._user,
            cgroup=self._cgroup,
            image=self._image.name if self._image else None,
            read_only=read_only,
        )
