"""The commands of an attempt, phase by phase, as orders to its executor."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from quaymaster.domain.messages import Assign, Outcome, PhaseOrder

from quaymaster_worker.executor import Order
from quaymaster_worker.phase.environment import phase_environment
from quaymaster_worker.phase.phase import Step
from quaymaster_worker.settings import RunUser, Settings
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
        settings: Settings,
    ) -> None:
        self._assign = assign.model_copy(update={"environment": {**packed, **assign.environment}})
        self._folder = folder
        self._user = user
        self._cgroup = cgroup
        self._settings = settings
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

    def steps(self, phase: PhaseOrder) -> list[Step]:
        """The commands of a phase, in order."""
        environment = self._environment(phase)
        return [
            *(Step(self._order(command, environment), hook=True) for command in phase.before),
            Step(self._order(phase.command, environment)),
            *(Step(self._order(command, environment), hook=True) for command in phase.after),
        ]

    def on_end(self, outcome: Outcome) -> list[Step]:
        """The commands that are run as the run ends; they see how."""
        phase = PhaseOrder(name=ON_END, log_timeout_seconds=0, run_timeout_seconds=0)
        how = {"QUAYMASTER_STATE": outcome.end, "QUAYMASTER_REASON": outcome.reason or ""}
        environment = {**self._environment(phase), **how}
        return [Step(self._order(command, environment)) for command in self._assign.on_end]

    def _environment(self, phase: PhaseOrder) -> Mapping[str, str]:
        settings = self._settings
        return phase_environment(
            self._assign,
            phase,
            self._folder,
            self._user,
            path=settings.path,
            lang=settings.lang,
            task_role=settings.task_role,
        )

    def _order(self, command: Sequence[str], environment: Mapping[str, str]) -> Order:
        return Order(
            command=command,
            environment=environment,
            folder=self._folder.workspace,
            user=self._user,
            cgroup=self._cgroup,
        )
