"""An MQTT client that finds out what a certificate's policy allows."""

# awscrt brings no types.
# pyright: reportMissingTypeStubs=false

import threading
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from awscrt import mqtt5
from awsiot import mqtt5_client_builder

SECONDS = 60


class Agent:
    """One client; each question is answered by the broker."""

    def __init__(self, client_id: str, certificate: str, key: str, ca: str, port: int) -> None:
        self._connected: Future[bool] = Future()
        self._stopped = threading.Event()
        build: Any = mqtt5_client_builder
        with TemporaryDirectory() as folder:
            authority = Path(folder) / "ca.pem"
            authority.write_text(ca)
            self._client = build.mtls_from_bytes(
                cert_bytes=certificate.encode(),
                pri_key_bytes=key.encode(),
                ca_filepath=str(authority),
                endpoint="localhost",
                port=port,
                client_id=client_id,
                on_lifecycle_connection_success=lambda _: self._conclude(True),  # pyright: ignore[reportUnknownLambdaType]
                on_lifecycle_connection_failure=lambda _: self._conclude(False),  # pyright: ignore[reportUnknownLambdaType]
                on_lifecycle_stopped=lambda _: self._stopped.set(),  # pyright: ignore[reportUnknownLambdaType]
            )

    def connects(self) -> bool:
        """Whether the broker lets it in; a client that is not is stopped at once."""
        self._client.start()
        came_in = self._connected.result(SECONDS)
        if not came_in:
            self.stop()
        return came_in

    def subscribes(self, topic: str) -> bool:
        """Whether it may listen there."""
        wanted = mqtt5.Subscription(topic_filter=topic, qos=mqtt5.QoS.AT_LEAST_ONCE)
        answer = self._client.subscribe(mqtt5.SubscribePacket(subscriptions=[wanted])).result(SECONDS)
        return all(code <= mqtt5.SubackReasonCode.GRANTED_QOS_2 for code in answer.reason_codes)

    def publishes(self, topic: str) -> bool:
        """Whether it may speak there."""
        packet = mqtt5.PublishPacket(topic=topic, payload=b"{}", qos=mqtt5.QoS.AT_LEAST_ONCE)
        answer = self._client.publish(packet).result(SECONDS).puback
        return answer.reason_code in (mqtt5.PubackReasonCode.SUCCESS, mqtt5.PubackReasonCode.NO_MATCHING_SUBSCRIBERS)

    def stop(self) -> None:
        """Disconnect and wait for it."""
        self._client.stop()
        self._stopped.wait(SECONDS)

    def _conclude(self, came_in: bool) -> None:
        if not self._connected.done():
            self._connected.set_result(came_in)
