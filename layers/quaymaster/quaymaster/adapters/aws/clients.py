"""One botocore session, and a client of each service made when it is first used: a cold start pays for what it uses.

botocore alone, because importing boto3 brings its transfer manager along: a tenth of a cold start for nothing.
"""

from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from quaymaster.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ecr import ECRClient
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_iot import IoTClient
    from mypy_boto3_iot_data import IoTDataPlaneClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

# No call takes longer than `reaping.WORST_CALL`, the waits between its tries (under a second) included: a service that
# hangs must not eat the time of what is behind it. Three tries of at most 1 + 2 s each.
_QUICK = Config(
    connect_timeout=1,
    read_timeout=2,
    retries={"mode": "standard", "total_max_attempts": 3},
    tcp_keepalive=True,
    max_pool_connections=4,
)
# RunTask of ten tasks, a certificate or a part of a large log take seconds on a bad day: two tries of 1 + 4 s. What
# repeats them after that is the table, not the client.
_SLOW = _QUICK.merge(Config(read_timeout=4, retries={"mode": "standard", "total_max_attempts": 2}))
# Asked before the first message, whose time it takes, and worth no more: there is an answer without it.
_BRIEF = _QUICK.merge(
    Config(connect_timeout=0.5, read_timeout=0.5, retries={"mode": "standard", "total_max_attempts": 1})
)


class Clients:
    """The AWS clients of one process."""

    def __init__(self, region: str, endpoint_url: str | None = None, ecs_endpoint: str | None = None) -> None:
        self._session: Any = Session()
        self._region = region
        self._endpoint_url = endpoint_url
        self._ecs_endpoint = ecs_endpoint

    def _client(self, service: str, endpoint_url: str | None, config: Config) -> Any:
        return self._session.create_client(service, region_name=self._region, endpoint_url=endpoint_url, config=config)

    @cached_property
    def dynamodb(self) -> "DynamoDBClient":
        """The table. Lost answers and throttling are repeated here; conflicts are for the store."""
        return self._client("dynamodb", self._endpoint_url, _QUICK)

    @cached_property
    def iot_data(self) -> "IoTDataPlaneClient":
        """MQTT publishing, at the account's own endpoint: AWS has the region's common one for tests.

        Where nobody says the account's (ten functions a second may ask), it is the common one: a message there is
        better than none.
        """
        return self._client("iot-data", self._endpoint_url or self._own_broker(), _QUICK)

    def _own_broker(self) -> str | None:
        try:
            asked: IoTClient = self._client("iot", None, _BRIEF)
            return f"https://{asked.describe_endpoint(endpointType='iot:Data-ATS')['endpointAddress']}"
        except (BotoCoreError, ClientError):
            return None

    @cached_property
    def iot(self) -> "IoTClient":
        """Certificates and policies."""
        return self._client("iot", self._endpoint_url, _SLOW)

    @cached_property
    def sqs(self) -> "SQSClient":
        """The queues."""
        return self._client("sqs", self._endpoint_url, _QUICK)

    @cached_property
    def functions(self) -> "LambdaClient":
        """The deployment's own functions."""
        return self._client("lambda", self._endpoint_url, _QUICK)

    @cached_property
    def ssm(self) -> "SSMClient":
        """Parameters."""
        return self._client("ssm", self._endpoint_url, _QUICK)

    @cached_property
    def ecs(self) -> "ECSClient":
        """Tasks; in the local cloud at an endpoint of its own."""
        return self._client("ecs", self._ecs_endpoint or self._endpoint_url, _SLOW)

    @cached_property
    def ec2(self) -> "EC2Client":
        """Subnets and security groups."""
        return self._client("ec2", self._endpoint_url, _QUICK)

    @cached_property
    def ecr(self) -> "ECRClient":
        """Images."""
        return self._client("ecr", self._endpoint_url, _QUICK)

    @cached_property
    def s3(self) -> "S3Client":
        """The bucket; presigning needs no client (see `presign`)."""
        style = "path" if self._endpoint_url else "virtual"
        config = _SLOW.merge(
            Config(
                signature_version="s3v4",
                s3={"addressing_style": style},
                # TLS and the signature guard what goes there; chunked trailers would only cost.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            )
        )
        return self._client("s3", self._endpoint_url, config)

    def credentials(self) -> Credentials:
        """What presigned requests are signed with. Raises Unavailable when there are none."""
        found: Credentials | None = self._session.get_credentials()
        if found is None:
            raise Unavailable("credentials", "this process has no AWS credentials")
        return found

    def credentials_left(self) -> timedelta | None:
        """How long the credentials are still valid, and with them what they presigned; None when nobody says.

        Lambda puts credentials into the environment without their expiry, and replaces the environment before it.
        """
        expiry: object = getattr(self.credentials(), "_expiry_time", None)
        return expiry - datetime.now(UTC) if isinstance(expiry, datetime) else None
