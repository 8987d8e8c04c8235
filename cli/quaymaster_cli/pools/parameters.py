"""A Fargate pool's token and key in SSM SecureString parameters, written with the user's own credentials."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quaymaster_cli.errors import CliError

if TYPE_CHECKING:
    from quaymaster_cli.deployment.target import Target

MAX_BYTES = 4096
"""What a parameter of the standard tier (free) holds."""


class Parameters:
    """The two parameters of one pool."""

    def __init__(self, target: "Target", prefix: str, pool_id: str) -> None:
        # The stubs know every service, pyright not every one of their overloads.
        session: Any = target.session
        self._ssm: Any = session.client("ssm", region_name=target.region, endpoint_url=target.endpoint_url)
        self.token_name = f"{prefix}/pools/{pool_id}/token"
        self.key_name = f"{prefix}/pools/{pool_id}/private-key"

    def put_key(self, key: str) -> None:
        """Write the key. Raises CliError."""
        self._put(self.key_name, key)

    def put_token(self, token: str) -> None:
        """Write the token (plain JSON). Raises CliError."""
        self._put(self.token_name, token)

    def remove_key(self) -> None:
        """Take the key away again. Raises CliError."""
        self._call(lambda: self._ssm.delete_parameter(Name=self.key_name), f"remove {self.key_name}")

    def _put(self, name: str, value: str) -> None:
        if len(value.encode()) > MAX_BYTES:
            raise CliError(f"{name} would have {len(value.encode())} bytes; a parameter holds {MAX_BYTES}")
        self._call(
            lambda: self._ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=False),
            f"write the parameter {name}",
        )

    def _call(self, call: Callable[[], object], what: str) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            call()
        except ClientError as error:
            raise CliError(f"cannot {what}: {error.response.get('Error', {}).get('Message', 'refused')}") from None
        except BotoCoreError as error:
            raise CliError(f"cannot {what}: {error}") from None
