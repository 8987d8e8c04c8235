"""The ear of a lab, `python -m tests.integration.listener`: a process that hears every message of an agent."""

import base64
import json
import sys
import threading
from typing import Any

from awscrt import mqtt5  # pyright: ignore[reportMissingTypeStubs]
from quaymaster_worker.configuration.token import decode_token
from quaymaster_worker.connection.crt import Crt


def listen_for_agents() -> None:
    """Connect with the token and key that standard input has; write every message of an agent to standard output."""
    setting = json.loads(sys.stdin.readline())
    token = decode_token(setting["token"])
    crt = Crt(token, setting["key"].encode())
    done: Any = threading.Event()

    def received(data: Any) -> None:
        packet = data.publish_packet
        print(json.dumps([packet.topic, base64.b64encode(packet.payload or b"").decode()]), flush=True)

    client: Any = mqtt5.Client(
        mqtt5.ClientOptions(
            host_name=token.mqtt[0].host,
            port=token.mqtt[0].port,
            bootstrap=crt.bootstrap,
            tls_ctx=crt.tls,
            connect_options=mqtt5.ConnectPacket(client_id="ear"),
            on_publish_callback_fn=received,
            on_lifecycle_event_connection_success_fn=lambda _: done.set(),
        )
    )
    client.start()
    assert done.wait(60)
    topics = mqtt5.SubscribePacket([mqtt5.Subscription(f"{token.namespace}/from/#", mqtt5.QoS.AT_LEAST_ONCE)])
    client.subscribe(topics).result(60)
    print("connected", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    listen_for_agents()
