"""What a pool's tasks need beside ECS: looked for in a real EC2 and ECR of the local cloud, and in AWS's own words."""

from typing import Any

import pytest
from quaymaster.adapters.ecs.vicinity import Vicinity
from quaymaster.errors import Refused, Unavailable

from tests.contract.aws import dead_client, refusing_client
from tests.contract.conftest import BareCloud

ACCOUNT, REGION = "000000000000", "us-east-1"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"


@pytest.fixture(scope="module")
def subnet(bare_cloud: BareCloud) -> dict[str, Any]:
    return bare_cloud.client("ec2").describe_subnets()["Subnets"][0]


@pytest.fixture(scope="module")
def groups(bare_cloud: BareCloud, subnet: dict[str, Any]) -> tuple[str, str]:
    """A security group of the subnet's VPC, and one of another."""
    ec2 = bare_cloud.client("ec2")
    other = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    here, there = (
        ec2.create_security_group(GroupName=f"in-{vpc}", Description="for a test", VpcId=vpc)["GroupId"]
        for vpc in (subnet["VpcId"], other)
    )
    return here, there


@pytest.fixture(scope="module")
def vicinity(bare_cloud: BareCloud) -> Vicinity:
    ecr = bare_cloud.client("ecr")
    ecr.create_repository(repositoryName="team/red")
    ecr.put_image(repositoryName="team/red", imageManifest='{"a": 1}', imageTag="1")
    return Vicinity(lambda: bare_cloud.client("ec2"), lambda: ecr)


def test_subnets_and_groups_that_are_there_are_fine(
    vicinity: Vicinity, subnet: dict[str, Any], groups: tuple[str, str]
) -> None:
    vicinity.check_network([subnet["SubnetId"]], [groups[0]])
    vicinity.check_network([subnet["SubnetId"]], [])


@pytest.mark.parametrize(
    ("subnets", "security_groups", "told"),
    [
        ((), (), "Subnets: found none; at least one"),
        (("subnet-0123456789abcdef0",), (), "subnet-0123456789abcdef0"),
        (None, ("sg-0123456789abcdef0",), "sg-0123456789abcdef0"),
    ],
)
def test_those_that_are_not_are_refused_by_name(
    vicinity: Vicinity,
    subnet: dict[str, Any],
    subnets: tuple[str, ...] | None,
    security_groups: tuple[str, ...],
    told: str,
) -> None:
    with pytest.raises(Refused) as refused:
        vicinity.check_network([subnet["SubnetId"]] if subnets is None else subnets, security_groups)
    assert told in str(refused.value)


def test_a_group_of_another_network_is_refused(
    vicinity: Vicinity, subnet: dict[str, Any], groups: tuple[str, str]
) -> None:
    with pytest.raises(Refused, match="one VPC"):
        vicinity.check_network([subnet["SubnetId"]], [groups[1]])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("InvalidSubnetID.NotFound", "The subnet ID 'subnet-1' does not exist"),
        ("InvalidSubnetID.Malformed", "The subnet ID 'nonsense' is malformed"),
        ("InvalidGroup.NotFound", "The security group 'sg-1' does not exist"),
        ("InvalidGroupId.Malformed", 'Invalid id: "sg"'),
    ],
)
def test_the_words_of_aws_are_a_refusal(code: str, message: str) -> None:
    client = refusing_client("ec2", code, message)
    with pytest.raises(Refused) as refused:
        Vicinity(lambda: client, lambda: client).check_network(["subnet-1"], ["sg-1"])
    assert message in str(refused.value)


def test_what_says_nothing_of_the_network_is_no_refusal() -> None:
    dead, slow = dead_client("ec2"), refusing_client("ec2", "RequestLimitExceeded", "slower")
    for vicinity in (Vicinity(lambda: dead, lambda: dead), Vicinity(lambda: slow, lambda: slow)):
        with pytest.raises(Unavailable):
            vicinity.check_network(["subnet-1"], [])


@pytest.mark.parametrize(
    "image", [f"{REGISTRY}/team/red:1", "python:3", "ghcr.io/a/b@sha256:00", f"111122223333{REGISTRY[12:]}/team/red:9"]
)
def test_an_image_that_is_there_or_elsewhere_is_fine(vicinity: Vicinity, image: str) -> None:
    vicinity.check_image(image, ACCOUNT, REGION)


@pytest.mark.parametrize(
    "image",
    [
        f"{REGISTRY}/team/red:2",
        f"{REGISTRY}/team/red",
        f"{REGISTRY}/team/red@sha256:{'0' * 64}",
        f"{REGISTRY}/team/blue:1",
    ],
)
def test_one_that_was_never_pushed_is_refused(vicinity: Vicinity, image: str) -> None:
    with pytest.raises(Refused, match="push it first"):
        vicinity.check_image(image, ACCOUNT, REGION)


def test_a_repository_that_the_deployment_may_not_read_is_named_with_the_parameter() -> None:
    client = refusing_client("ecr", "AccessDeniedException", "not authorized to perform: ecr:BatchGetImage")
    with pytest.raises(Refused, match="ImageRepositoryArns"):
        Vicinity(lambda: client, lambda: client).check_image(f"{REGISTRY}/team/red:1", ACCOUNT, REGION)
    missing = refusing_client("ecr", "ImageNotFoundException", "The image with imageId {…} does not exist")
    with pytest.raises(Refused, match="push it first"):
        Vicinity(lambda: missing, lambda: missing).check_image(f"{REGISTRY}/team/red:1", ACCOUNT, REGION)
