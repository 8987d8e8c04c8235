"""Agents' certificates, made by IoT: `ports.Certificates`."""

import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

from botocore.exceptions import ClientError
from pydantic import Field, ValidationError

from quaymaster.adapters.aws.errors import MISSING, code_of, text_of, translated
from quaymaster.domain.certificates import expiry
from quaymaster.domain.messages import Endpoint, Value
from quaymaster.errors import Refused, Unavailable
from quaymaster.ports import Certificate

if TYPE_CHECKING:
    from mypy_boto3_iot import IoTClient
    from mypy_boto3_ssm import SSMClient

MQTT_PORT = 8883
_CSR = re.compile(r"^-----BEGIN (NEW )?CERTIFICATE REQUEST-----", re.MULTILINE)
_GOOD_CSR = "a certificate signing request in PEM, for RSA of 2048 bits or more or NIST P-256, P-384 or P-521"


class AgentsParameter(Value):
    """What the SSM parameter `<prefix>/agents` says, where there is one: where agents connect instead."""

    mqtt: Annotated[list[Endpoint], Field(min_length=1)]
    ca: str | None = None


class IotCertificates:
    """Fulfils `ports.Certificates`.

    `issue` is not idempotent, because CreateCertificateFromCsr is not: each call makes another certificate for the
    same key. What an interrupted call leaves is a certificate that was never handed out; without its policy it may
    not even connect.
    """

    def __init__(
        self, namespace: str, ssm_prefix: str, iot: Callable[[], "IoTClient"], ssm: Callable[[], "SSMClient"]
    ) -> None:
        self._namespace = namespace
        self._parameter = f"{ssm_prefix}/agents"
        self._iot = iot
        self._ssm = ssm

    def issue(self, pool_id: str, csr: str) -> Certificate:
        check_csr(csr)
        iot = self._iot()
        with translated("iot", _refused_csr):
            made = iot.create_certificate_from_csr(certificateSigningRequest=csr, setAsActive=True)
        arn, pem = made["certificateArn"], made["certificatePem"]
        policy = f"{self._namespace}-pool-{pool_id}"
        with translated("iot"):
            try:
                iot.create_policy(policyName=policy, policyDocument=policy_document(self._namespace, pool_id, arn))
            except ClientError as error:
                # A pool's id is never used again, so a policy of its name says the same.
                if code_of(error) != "ResourceAlreadyExistsException":
                    raise
            iot.attach_policy(policyName=policy, target=arn)
        return Certificate(id=made["certificateId"], arn=arn, pem=pem, expires_at=expiry(pem))

    def endpoints(self) -> tuple[Sequence[tuple[str, int]], str | None]:
        named = self._named()
        if named:
            return [(endpoint.host, endpoint.port) for endpoint in named.mqtt], named.ca
        with translated("iot"):
            host = self._iot().describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
        return [(host, MQTT_PORT)], None

    def _named(self) -> AgentsParameter | None:
        with translated("ssm"):
            try:
                found = self._ssm().get_parameter(Name=self._parameter)["Parameter"].get("Value", "")
            except ClientError as error:
                if code_of(error) in MISSING:
                    return None
                raise
        try:
            return AgentsParameter.model_validate_json(found)
        except ValidationError as error:
            raise Unavailable("ssm", f"{self._parameter} is not as documented: {error.errors()[0]['msg']}") from None


def policy_document(namespace: str, pool_id: str, certificate_arn: str) -> str:
    """What a pool's agents may do: be one of its workers, hear what is sent to it, and speak as nobody else.

    The certificate's ARN says in which partition, region and account. IoT allows 2048 characters.
    """
    at = certificate_arn.rpartition(":")[0]
    own = "${iot:ClientId}"
    heard = [f"{namespace}/to/{pool_id}/{own}", f"{namespace}/to/{pool_id}/all"]
    statements = [
        ("iot:Connect", [f"{at}:client/{namespace}.{pool_id}.*"]),
        ("iot:Subscribe", [f"{at}:topicfilter/{topic}" for topic in heard]),
        ("iot:Receive", [f"{at}:topic/{topic}" for topic in heard]),
        ("iot:Publish", [f"{at}:topic/{namespace}/from/{pool_id}/{own}/*"]),
    ]
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": action, "Resource": on} for action, on in statements],
        },
        separators=(",", ":"),
    )


def check_csr(csr: str) -> None:
    """Raises Refused for what is not even PEM of a CSR; a key in its place is not repeated."""
    if not _CSR.search(csr):
        raise Refused("csr", f"{len(csr)} characters of something else", _GOOD_CSR)


def _refused_csr(error: ClientError) -> Refused | None:
    if code_of(error) not in ("InvalidRequestException", "CertificateValidationException"):
        return None
    return Refused("csr", text_of(error), _GOOD_CSR)
