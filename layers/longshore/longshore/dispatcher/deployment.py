"""Names of a deployment that answers to users carry."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One deployment: its namespace, where its pools' tokens and keys lie, and its bucket."""

    namespace: str
    ssm_prefix: str
    bucket: str

    def token_parameter(self, pool_id: str) -> str:
        """The parameter that holds a pool's token, for its Fargate tasks."""
        return f"{self.ssm_prefix}/pools/{pool_id}/token"

    def key_parameter(self, pool_id: str) -> str:
        """The parameter that holds a pool's private key, for its Fargate tasks."""
        return f"{self.ssm_prefix}/pools/{pool_id}/private-key"
