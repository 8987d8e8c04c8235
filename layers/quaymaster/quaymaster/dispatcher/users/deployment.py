"""Names of a deployment that answers to users carry."""

from dataclasses import dataclass, field

from quaymaster.domain.cost import Prices, TaskSize


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One deployment: its namespace, where its pools' tokens and keys lie, its bucket, and what its tasks cost."""

    namespace: str
    ssm_prefix: str
    bucket: str
    task_size: TaskSize = field(default_factory=TaskSize)
    prices: Prices = field(default_factory=Prices)

    @property
    def run_role_prefix(self) -> str:
        """How the names of roles begin that this deployment may hand to tasks, as the template allows it."""
        return f"{self.namespace}-run-"

    def token_parameter(self, pool_id: str) -> str:
        """The parameter that holds a pool's token, for its Fargate tasks."""
        return f"{self.ssm_prefix}/pools/{pool_id}/token"

    def key_parameter(self, pool_id: str) -> str:
        """The parameter that holds a pool's private key, for its Fargate tasks."""
        return f"{self.ssm_prefix}/pools/{pool_id}/private-key"
