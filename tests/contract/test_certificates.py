"""What every maker of certificates promises: in memory, in moto, and in the local cloud, whose broker enforces them."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from quaymaster.adapters.iot.certificates import IotCertificates, policy_document
from quaymaster.adapters.memory.certificates import MemoryCertificates
from quaymaster.domain.certificates import expiry
from quaymaster.domain.ids import topic_from, topic_to
from quaymaster.errors import Refused, Unavailable
from quaymaster.ports import Certificates

from tests.contract.aws import dead_client, moto_client, refusing_client
from tests.contract.conftest import BareCloud
from tests.contract.mqtt import Agent
from tests.shared.memory.records import OTHER_POOL, POOL, a_worker

NAMESPACE = "contract"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEY_PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()


def a_csr(name: str = "team-a") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(KEY, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def in_memory(_request: pytest.FixtureRequest) -> Iterator[Certificates]:
    yield MemoryCertificates()


def over_aws(client: Callable[[str], Any], prefix: str = "/quaymaster/contract") -> IotCertificates:
    return IotCertificates(NAMESPACE, prefix, lambda: client("iot"), lambda: client("ssm"))


def in_moto(request: pytest.FixtureRequest) -> Iterator[Certificates]:
    request.getfixturevalue("moto")
    yield over_aws(moto_client)


def in_local_cloud(request: pytest.FixtureRequest) -> Iterator[Certificates]:
    cloud: BareCloud = request.getfixturevalue("bare_cloud")
    yield over_aws(cloud.client)


@pytest.fixture(
    params=[
        pytest.param(in_memory, id="memory"),
        pytest.param(in_moto, id="moto"),
        pytest.param(in_local_cloud, id="local", marks=pytest.mark.local),
    ]
)
def certificates(request: pytest.FixtureRequest) -> Iterator[Certificates]:
    yield from request.param(request)


def test_a_certificate_has_an_id_an_arn_and_a_pem(certificates: Certificates) -> None:
    made = certificates.issue(POOL, a_csr())
    assert made.arn.endswith(f":cert/{made.id}")
    assert made.pem.startswith("-----BEGIN CERTIFICATE-----")
    assert made.expires_at is None or made.expires_at > datetime.now(UTC)


def test_each_call_makes_a_certificate_of_its_own(certificates: Certificates) -> None:
    first, second = certificates.issue(POOL, a_csr()), certificates.issue(POOL, a_csr())
    assert first.id != second.id


def test_without_a_parameter_agents_connect_to_one_broker_by_its_usual_port(certificates: Certificates) -> None:
    brokers, ca = certificates.endpoints()
    [(host, port)] = brokers
    assert host
    assert port == 8883
    assert ca is None


@pytest.mark.parametrize("opened", [in_memory, pytest.param(in_local_cloud, marks=pytest.mark.local)])
@pytest.mark.parametrize("csr", ["", "not a CSR", KEY_PEM])
def test_a_csr_that_is_none_is_refused_and_names_the_field(
    request: pytest.FixtureRequest, opened: Callable[[pytest.FixtureRequest], Iterator[Certificates]], csr: str
) -> None:
    for certificates in opened(request):
        with pytest.raises(Refused) as refused:
            certificates.issue(POOL, csr)
        assert refused.value.field == "csr"


@pytest.mark.local
def test_a_certificate_is_active_carries_the_csrs_key_and_has_the_pools_policy(bare_cloud: BareCloud) -> None:
    made = over_aws(bare_cloud.client).issue(POOL, a_csr())
    iot = bare_cloud.client("iot")
    found = x509.load_pem_x509_certificate(made.pem.encode())
    assert found.public_key() == KEY.public_key()
    assert made.expires_at == found.not_valid_after_utc
    assert iot.describe_certificate(certificateId=made.id)["certificateDescription"]["status"] == "ACTIVE"
    attached = iot.list_attached_policies(target=made.arn)["policies"]
    assert [policy["policyName"] for policy in attached] == [f"{NAMESPACE}-pool-{POOL}"]


@pytest.mark.local
def test_the_broker_lets_an_agent_be_one_of_its_pools_workers_and_nobody_else(bare_cloud: BareCloud) -> None:
    made = over_aws(bare_cloud.client).issue(POOL, a_csr())

    def agent(client_id: str) -> Agent:
        return Agent(client_id, made.pem, KEY_PEM, bare_cloud.ca_pem, bare_cloud.mqtt_port)

    for stranger in (f"{NAMESPACE}.{OTHER_POOL}.{'1' * 32}", "somebody", f"other.{POOL}.{'1' * 32}"):
        assert not agent(stranger).connects()
    own, other = f"{NAMESPACE}.{POOL}.{'1' * 32}", f"{NAMESPACE}.{POOL}.{'2' * 32}"
    worker = agent(own)
    assert worker.connects()
    try:
        assert worker.subscribes(topic_to(NAMESPACE, POOL, own))
        assert worker.subscribes(topic_to(NAMESPACE, POOL, "all"))
        assert not worker.subscribes(topic_to(NAMESPACE, POOL, other))
        assert not worker.subscribes(topic_to(NAMESPACE, POOL, "#"))
        assert not worker.subscribes(f"{NAMESPACE}/replies/a")
        assert worker.publishes(topic_from(NAMESPACE, POOL, own, "registered"))
        assert not worker.publishes(topic_from(NAMESPACE, POOL, other, "registered"))
        assert not worker.publishes(f"{NAMESPACE}/requests/{own}")
    finally:
        worker.stop()


def test_a_policy_fits_what_iot_allows_for_the_longest_names() -> None:
    arn = "arn:aws-us-gov:iot:us-gov-east-1:123456789012:cert/" + "c" * 64
    document = policy_document("n" * 31, POOL, arn)
    assert len(document) <= 2048
    statements = {one["Action"]: one["Resource"] for one in json.loads(document)["Statement"]}
    assert set(statements) == {"iot:Connect", "iot:Subscribe", "iot:Receive", "iot:Publish"}
    at = "arn:aws-us-gov:iot:us-gov-east-1:123456789012"
    assert statements["iot:Connect"] == [f"{at}:client/{'n' * 31}.{POOL}.*"]
    assert statements["iot:Publish"] == [f"{at}:topic/{'n' * 31}/from/{POOL}/${{iot:ClientId}}/*"]


def test_a_parameter_names_other_brokers_and_their_ca(moto: None) -> None:
    prefix = f"/quaymaster/{uuid4().hex}"
    said = {"mqtt": [{"host": "agents.example.test", "port": 443}, {"host": "b"}], "ca": "PEM"}
    moto_client("ssm").put_parameter(Name=f"{prefix}/agents", Value=json.dumps(said), Type="String")
    assert over_aws(moto_client, prefix).endpoints() == ([("agents.example.test", 443), ("b", 8883)], "PEM")


@pytest.mark.parametrize("said", ["{", "{}", '{"mqtt": []}', '{"mqtt": [{"host": "a", "port": 0}]}'])
def test_a_parameter_that_cannot_be_read_is_named_and_not_passed_over(moto: None, said: str) -> None:
    prefix = f"/quaymaster/{uuid4().hex}"
    moto_client("ssm").put_parameter(Name=f"{prefix}/agents", Value=said, Type="String")
    with pytest.raises(Unavailable, match=f"{prefix}/agents"):
        over_aws(moto_client, prefix).endpoints()


@pytest.mark.parametrize(
    "client",
    [dead_client, lambda service: refusing_client(service, "UnauthorizedException", "not authorized", 401)],  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    ids=["dead", "denied"],
)
def test_a_service_that_does_not_answer_is_unavailable(client: Callable[[str], Any]) -> None:
    with pytest.raises(Unavailable, match="iot"):
        over_aws(client).issue(POOL, a_csr())
    with pytest.raises(Unavailable, match="ssm"):
        over_aws(client).endpoints()


@pytest.mark.parametrize("year", [2049, 2050, 2090])
@pytest.mark.parametrize("key", [KEY, ec.generate_private_key(ec.SECP384R1())], ids=["rsa", "ec"])
def test_the_end_of_a_certificate_is_read_before_and_after_2050(
    year: int, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    ends = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 60)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=9000))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    assert expiry(made.public_bytes(serialization.Encoding.PEM).decode()) == ends


@pytest.mark.parametrize("pem", ["", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----", a_worker().id])
def test_the_end_of_what_is_no_certificate_is_unknown(pem: str) -> None:
    assert expiry(pem) is None
