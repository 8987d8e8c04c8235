"""How awscrt is set up: mutual TLS for the process, and an MQTT 5 client with its pauses for one endpoint."""

# awscrt brings no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from collections.abc import Callable
from dataclasses import dataclass

from awscrt import io, mqtt5
from awscrt.exceptions import AwsCrtError
from quaymaster.domain.messages import Endpoint, PoolToken

from quaymaster_worker.errors import ConfigurationRefused

KEEP_ALIVE = 30
PING_TIMEOUT = 10
CONNECT_TIMEOUT = 15
NEVER_MS = 24 * 3600 * 1000
"""awscrt's own pause before it connects again: whoever uses a client stops it first. Its pauses do not grow from the
least to the most that is set, as awscrt 0.36.1 says they do, but begin at the most."""


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Who is told what a client sees; called on awscrt's own thread."""

    received: Callable[[mqtt5.PublishReceivedData], None]
    succeeded: Callable[[mqtt5.LifecycleConnectSuccessData], None]
    failed: Callable[[mqtt5.LifecycleConnectFailureData], None]
    lost: Callable[[mqtt5.LifecycleDisconnectData], None]
    stopped: Callable[[mqtt5.LifecycleStoppedData], None]


class Crt:
    """What all connections of the process share: one thread, one TLS context."""

    def __init__(self, token: PoolToken, private_key: bytes) -> None:
        """Raises ConfigurationRefused when certificate, key or CA cannot be used."""
        group = io.EventLoopGroup(1)
        self.bootstrap = io.ClientBootstrap(group, io.DefaultHostResolver(group))
        options = io.TlsContextOptions.create_client_with_mtls(token.certificate.encode(), private_key)
        if token.ca:
            options.override_default_trust_store(token.ca.encode())
        try:
            self.tls = io.ClientTlsContext(options)
        except AwsCrtError as error:
            found = f"a certificate, key or CA that cannot be used ({error.name})"
            raise ConfigurationRefused(
                "QUAYMASTER_TOKEN", found, "a token and the private key that belongs to it"
            ) from None

    def make_client(self, endpoint: Endpoint, client_id: str, callbacks: Callbacks) -> mqtt5.Client:
        """A client that connects to this endpoint once it is started."""
        return mqtt5.Client(
            mqtt5.ClientOptions(
                host_name=endpoint.host,
                port=endpoint.port,
                bootstrap=self.bootstrap,
                tls_ctx=self.tls,
                connect_options=mqtt5.ConnectPacket(
                    client_id=client_id,
                    keep_alive_interval_sec=KEEP_ALIVE,
                    session_expiry_interval_sec=0,
                ),
                session_behavior=mqtt5.ClientSessionBehaviorType.CLEAN,
                offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
                extended_validation_and_flow_control_options=(
                    mqtt5.ExtendedValidationAndFlowControlOptions.AWS_IOT_CORE_DEFAULTS
                ),
                retry_jitter_mode=mqtt5.ExponentialBackoffJitterMode.NONE,
                min_reconnect_delay_ms=NEVER_MS,
                max_reconnect_delay_ms=NEVER_MS,
                ping_timeout_ms=PING_TIMEOUT * 1000,
                connack_timeout_ms=CONNECT_TIMEOUT * 1000,
                on_publish_callback_fn=callbacks.received,
                on_lifecycle_event_connection_success_fn=callbacks.succeeded,
                on_lifecycle_event_connection_failure_fn=callbacks.failed,
                on_lifecycle_event_disconnection_fn=callbacks.lost,
                on_lifecycle_event_stopped_fn=callbacks.stopped,
                disable_metrics=True,
            )
        )
