"""What tasks need that is not ECS's: subnets, security groups, and an image that can be pulled.

ECS takes a task definition whatever it names, and says only of a task that it could not be started.
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from quaymaster.adapters.aws.errors import code_of, may_pass, text_of, translated
from quaymaster.errors import QuaymasterError, Refused, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ecr import ECRClient

_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+)(?::([^@]+))?(?:@(sha256:\w+))?")
_MISSING_IMAGE = frozenset({"ImageNotFoundException", "RepositoryNotFoundException"})
_NO_SUCH = re.compile(r"Invalid(Subnet|SubnetID|Group|GroupId|SecurityGroupID)\.(NotFound|Malformed)")
_NETWORK_PARAMETERS = "those of this account and region, as the deployment's parameters Subnets and SecurityGroups"


class Vicinity:
    """Looks whether what a pool's tasks would need is there."""

    def __init__(self, ec2: Callable[[], "EC2Client"], ecr: Callable[[], "ECRClient"]) -> None:
        self._ec2 = ec2
        self._ecr = ecr

    def check_network(self, subnets: Sequence[str], groups: Sequence[str]) -> None:
        """Raises Refused for subnets or security groups that do not exist, or lie apart; Unavailable."""
        if not subnets:
            raise Refused("Subnets", "none", "at least one, as the deployment's parameter: tasks are started in them")
        with translated("ec2", _judged):
            found = self._ec2().describe_subnets(SubnetIds=list(subnets))["Subnets"]
            networks = {subnet.get("VpcId") for subnet in found}
            of_groups: set[str | None] = set()
            if groups:
                named = self._ec2().describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
                of_groups = {group.get("VpcId") for group in named}
        if len(networks | of_groups) > 1:
            told = f"{', '.join(subnets)} and {', '.join(groups)}"
            raise Refused("SecurityGroups", told, "subnets and security groups of one VPC")

    def check_image(self, image: str, account: str, region: str) -> None:
        """Raises Refused for an image of this account's registry that is not there; Unavailable.

        Of any other registry nobody can tell before a task is started.
        """
        found = _ECR.fullmatch(image)
        if not found or (found[1], found[2]) != (account, region):
            return
        repository, tag, digest = found[3], found[4], found[5]
        wanted = {"imageDigest": digest} if digest else {"imageTag": tag or "latest"}
        try:
            answer = self._ecr().batch_get_image(repositoryName=repository, imageIds=[wanted])  # type: ignore[list-item]
            is_there = bool(answer["images"])
        except ClientError as error:
            if code_of(error) == "AccessDeniedException":
                allowed = "an image of the stack's repository, or of one in the parameter ImageRepositoryArns"
                raise Refused("image", image, allowed) from error
            if code_of(error) not in _MISSING_IMAGE:
                raise Unavailable("ecr", text_of(error)) from error
            is_there = False
        if not is_there:
            raise Refused("image", image, f"an image that is in the repository {repository}: push it first")


def _judged(error: ClientError) -> QuaymasterError | None:
    if may_pass(error) or not _NO_SUCH.fullmatch(code_of(error)):
        return None
    return Refused("network", error.response.get("Error", {}).get("Message", ""), _NETWORK_PARAMETERS)
