"""A requester on MQTT: a certificate of its own, whose policy allows requests and their answers, nothing else."""

# awscrt brings no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

from awscrt import io, mqtt5
from quaymaster.domain.requests import Reply

from quaymaster_local.cloud import LocalCloud
from quaymaster_local.demo.errors import DemoFailed

CLIENT = "demo"
CONNECT_SECONDS = 30
ANSWER_SECONDS = 60
STOP_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What the requester connects with, and the topics that its policy allows."""

    certificate: str
    key: str
    client_id: str
    requests: str
    replies: str


def make_identity(cloud: LocalCloud) -> Identity:
    """A certificate from IoT, with a policy like the stack's RequesterPolicy."""
    iot, namespace = cloud.client("iot"), cloud.namespace
    made = iot.create_keys_and_certificate(setAsActive=True)
    identity = Identity(
        certificate=made["certificatePem"],
        key=made["keyPair"]["PrivateKey"],
        client_id=f"{namespace}-requester-{CLIENT}",
        requests=f"{namespace}/requests/{CLIENT}",
        replies=f"{namespace}/replies/{CLIENT}",
    )
    here = made["certificateArn"].rpartition(":")[0]
    allowed = {
        "iot:Connect": f"{here}:client/{identity.client_id}",
        "iot:Publish": f"{here}:topic/{identity.requests}",
        "iot:Subscribe": f"{here}:topicfilter/{identity.replies}",
        "iot:Receive": f"{here}:topic/{identity.replies}",
    }
    statements = [{"Effect": "Allow", "Action": action, "Resource": arn} for action, arn in allowed.items()]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iot.create_policy(policyName=identity.client_id, policyDocument=policy)
    iot.attach_policy(policyName=identity.client_id, target=made["certificateArn"])
    return identity


class Requester:
    """Connected and subscribed within its `async with` block. Raises DemoFailed when the broker does not answer."""

    def __init__(self, cloud: LocalCloud, identity: Identity) -> None:
        self._identity = identity
        self._loop = asyncio.get_running_loop()
        self._connected = self._loop.create_future()
        self._stopped = asyncio.Event()
        self._replies: asyncio.Queue[Reply] = asyncio.Queue()
        self._client = self._make_client(cloud)

    async def __aenter__(self) -> Self:
        self._client.start()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._connected
                packet = mqtt5.SubscribePacket([mqtt5.Subscription(self._identity.replies, mqtt5.QoS.AT_LEAST_ONCE)])
                granted = await asyncio.wrap_future(self._client.subscribe(packet))
        except TimeoutError:
            await self._stop()
            raise DemoFailed(f"the broker did not let the requester in within {CONNECT_SECONDS} s") from None
        if any(code >= 128 for code in granted.reason_codes):
            await self._stop()
            raise DemoFailed(f"the broker refused the requester's subscription to {self._identity.replies}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def ask(self, request: dict[str, Any]) -> Reply:
        """Publish a request and wait for its answer. Raises DemoFailed."""
        body = json.dumps({**request, "reply_to": self._identity.replies}).encode()
        packet = mqtt5.PublishPacket(topic=self._identity.requests, payload=body, qos=mqtt5.QoS.AT_LEAST_ONCE)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.wrap_future(self._client.publish(packet))
                while (reply := await self._replies.get()).id != request["id"]:
                    continue
                return reply
        except TimeoutError:
            raise DemoFailed(f"no answer on {self._identity.replies} within {ANSWER_SECONDS} s") from None

    def _make_client(self, cloud: LocalCloud) -> mqtt5.Client:
        options = io.TlsContextOptions.create_client_with_mtls(
            self._identity.certificate.encode(), self._identity.key.encode()
        )
        options.override_default_trust_store(cloud.ca_pem.encode())
        return mqtt5.Client(
            mqtt5.ClientOptions(
                host_name=cloud.mqtt_host,
                port=cloud.mqtt_port,
                tls_ctx=io.ClientTlsContext(options),
                connect_options=mqtt5.ConnectPacket(client_id=self._identity.client_id, keep_alive_interval_sec=30),
                on_lifecycle_event_connection_success_fn=lambda _: self._tell(self._note_connected),
                on_lifecycle_event_stopped_fn=lambda _: self._tell(self._stopped.set),
                on_publish_callback_fn=lambda data: self._tell(
                    partial(self._receive, bytes(data.publish_packet.payload or b""))
                ),
                disable_metrics=True,
            )
        )

    def _tell(self, what: Callable[[], None]) -> None:
        """From a thread of the client's."""
        self._loop.call_soon_threadsafe(what)

    def _note_connected(self) -> None:
        if not self._connected.done():
            self._connected.set_result(None)

    def _receive(self, payload: bytes) -> None:
        self._replies.put_nowait(Reply.model_validate_json(payload))

    async def _stop(self) -> None:
        self._client.stop(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.NORMAL_DISCONNECTION))
        async with asyncio.timeout(STOP_SECONDS):
            await self._stopped.wait()
