"""Names of a deployment that answers to users carry."""

from dataclasses import dataclass, field

from quaymaster.domain.cost import TaskSize
from quaymaster.domain.pool import Pool
from quaymaster.domain.prices import Architecture, PriceList, price_list


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One deployment: its namespace, where its pools' tokens and keys lie, its bucket, and what its tasks cost."""

    namespace: str
    ssm_prefix: str
    bucket: str
    region: str = ""
    task_size: TaskSize = field(default_factory=TaskSize)
    architecture: Architecture = Architecture.X86_64
    prices: str = ""
    """As the parameter tells them; empty: by the table."""

    @property
    def run_role_prefix(self) -> str:
        """How the names of roles begin that this deployment may hand to tasks, as the template allows it."""
        return f"{self.namespace}-run-"

    def __post_init__(self) -> None:
        """Raises Refused for prices that are none."""
        price_list(self.prices, self.region, self.architecture)

    def size_of(self, pool: Pool) -> TaskSize:
        """The size of a pool's tasks."""
        return TaskSize(cpu=pool.cpu or self.task_size.cpu, memory=pool.memory or self.task_size.memory)

    def prices_of(self, pool: Pool) -> PriceList | None:
        """What a pool's tasks cost; None where nobody knows."""
        return price_list(self.prices, self.region, pool.architecture or self.architecture)

    def token_parameter(self, pool_id: str) -> str:
        """The parameter that holds a pool's token, for its Fargate tasks."""
        return f"{self.ssm_prefix}/pools/{pool_id}/token"

    def key_parameter(self, pool_id: str) -> str:
        """The parameter that holds a pool's private key, for its Fargate tasks."""
        return f"{self.ssm_prefix}/pools/{pool_id}/private-key"
