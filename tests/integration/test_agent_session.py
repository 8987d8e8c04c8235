"""Real agents on a real broker and store: sessions, phases, logs, timeouts, ends."""

import hashlib
import io
import json
import os
import signal
import ssl
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from quaymaster.domain import messages as m
from quaymaster.domain.states import Reason
from quaymaster_sealing.keys import make_csr
from quaymaster_worker.configuration.settings import DEFAULT_UIDS, SYSTEM_PATH
from quaymaster_worker.errors import ExitCode
from quaymaster_worker.processes.marks import Mark, marked

from tests.integration.agent_lab import AgentUnderTest, Lab
from tests.integration.control_plane import Terms
from tests.shared.tls_parties import BROKER, CA, OURS, broker, party

pytestmark = pytest.mark.local


@pytest.fixture
def agent(lab: Lab) -> AgentUnderTest:
    return lab.start_welcomed()


def goodbye(lab: Lab, agent: AgentUnderTest) -> int:
    agent.process.send_signal(signal.SIGTERM)
    lab.control.wait(m.Goodbye, lambda bye: bye.session == agent.session)
    return agent.wait()


def test_an_agent_registers_with_its_metadata_and_limits_and_says_goodbye(lab: Lab) -> None:
    agent = lab.start_welcomed(
        QUAYMASTER_METADATA_zone="a", QUAYMASTER_LAUNCH="L1", QUAYMASTER_LAUNCHER_LOG_TIMEOUT="90s"
    )
    assert agent.registered
    assert (agent.registered.metadata["zone"], agent.registered.launch) == ("a", "L1")
    assert (agent.registered.log_timeout_seconds, agent.registered.run_timeout_seconds) == (90, None)
    assert goodbye(lab, agent) == ExitCode.GOODBYE


def test_a_phase_runs_with_its_log_in_the_store(lab: Lab, agent: AgentUnderTest) -> None:
    script = "echo out; sleep 0.3; echo err >&2; echo user $(id -u); printf unterminated; exit 3"
    lab.begin(agent, "PHASE", ["sh", "-c", script], environment={"GIVEN": "x"})
    report = lab.finish("PHASE")
    ended = m.Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=3, note="exit code 3")
    # On a busy machine it was looked at while it ran.
    assert report.outcome.model_copy(update={"usage": None}) == ended
    first, last = map(int, DEFAULT_UIDS.split("-")) if os.geteuid() == 0 else (os.geteuid(), os.geteuid())
    told = lab.log_of("PHASE")
    (user,) = [int(text.removeprefix("user ")) for _, text in told if text.startswith("user ")]
    assert first <= user <= last
    expected = [("output", text) for text in ("out", "err", f"user {user}", "unterminated")]
    assert told == lab.chunks_of("PHASE") == expected
    assert lab.end_of("PHASE") == m.LogEnd(run="PHASE", attempt=1, digest=report.log, outcome=report.outcome)


def test_a_phase_finds_programs_where_the_launcher_says_and_not_where_the_agent_does(lab: Lab) -> None:
    agent = lab.start_welcomed(QUAYMASTER_LAUNCHER_PATH="/opt/tools", PATH=f"/root/closed:{os.environ['PATH']}")
    lab.begin(agent, "PATH", ["sh", "-c", 'echo "$PATH"'])
    lab.finish("PATH")
    assert lab.log_of("PATH") == [("output", f"/opt/tools:{SYSTEM_PATH}")]


def test_a_repeated_assignment_and_go_begin_nothing_again(lab: Lab, agent: AgentUnderTest, tmp_path: Path) -> None:
    lab.begin(agent, "ONCE", ["true"])
    first = lab.finish("ONCE")
    after = lab.control.count
    lab.assign(agent, "ONCE", ["true"])
    lab.send(agent, m.Go(session=agent.session, run="ONCE", attempt=1))
    _, again = lab.control.wait(m.PhaseFinished, after=after)
    assert again.outcome == first.outcome
    assert sum(line["msg"] == "the phase begins" for line in agent.lines) == 1


def test_a_workspace_is_unpacked_where_the_command_begins(lab: Lab, agent: AgentUnderTest) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("folder/hello.sh")
        entry.size, entry.mode = 11, 0o755
        tar.addfile(entry, io.BytesIO(b"echo packed"))
    packed = buffer.getvalue()
    grant = m.WorkspaceGrant(url=lab.workspace("inputs/w", packed), sha256=hashlib.sha256(packed).hexdigest())
    lab.begin(agent, "PACKED", ["sh", "folder/hello.sh"], workspace=grant)
    assert lab.finish("PACKED").outcome.end == "FINISHED"
    assert lab.log_of("PACKED") == [("output", "packed")]


def test_a_workspace_that_is_not_what_was_promised_fails_before_anything_begins(
    lab: Lab, agent: AgentUnderTest
) -> None:
    grant = m.WorkspaceGrant(url=lab.workspace("inputs/x", b"something else"), sha256="0" * 64)
    lab.assign(agent, "FORGED", ["true"], workspace=grant)
    outcome = lab.finish("FORGED").outcome
    assert (outcome.end, outcome.reason) == ("FAILED", Reason.WORKSPACE)
    assert "digest" in str(outcome.note)


def test_silence_is_warned_about_and_ended_with_all_its_processes(lab: Lab, agent: AgentUnderTest) -> None:
    script = "echo begun; trap '' TERM; setsid sleep 300 & sleep 300"
    began = time.monotonic()
    lab.begin(agent, "SILENT", ["sh", "-c", script], log_timeout_seconds=2.5, warning_seconds=1)
    report = lab.finish("SILENT")
    assert time.monotonic() - began >= 2.5
    assert (report.outcome.end, report.outcome.reason) == ("FAILED", Reason.LOG_TIMEOUT)
    assert marked(Mark("SILENT", 1)) == []
    said = [text for stream, text in lab.log_of("SILENT") if stream == "agent"]
    assert [("no output" in text) for text in said] == [True, True]


def test_a_phase_that_talks_on_is_ended_by_the_run_timeout(lab: Lab, agent: AgentUnderTest) -> None:
    script = "while :; do echo tick; sleep 0.1; done"
    lab.begin(agent, "ENDLESS", ["sh", "-c", script], log_timeout_seconds=1, run_timeout_seconds=3)
    assert lab.finish("ENDLESS").outcome.reason is Reason.RUN_TIMEOUT


def test_extended_timeouts_are_obeyed(lab: Lab, agent: AgentUnderTest) -> None:
    lab.begin(agent, "LONGER", ["sleep", "11"], log_timeout_seconds=8)
    longer = m.Extend(session=agent.session, run="LONGER", attempt=1, log_timeout_seconds=30, run_timeout_seconds=60)
    lab.send(agent, longer)
    assert lab.finish("LONGER").outcome.end == "FINISHED"


def test_stop_gives_the_command_time_and_its_reason_is_reported(lab: Lab, agent: AgentUnderTest) -> None:
    lab.begin(agent, "STOPPED", ["sh", "-c", "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.1; done"])
    lab.wait_for_chunks("STOPPED")
    lab.send(agent, m.Stop(session=agent.session, run="STOPPED", attempt=1, reason=Reason.BY_USER))
    outcome = lab.finish("STOPPED").outcome
    assert (outcome.end, outcome.reason, outcome.exit_code) == ("STOPPED", Reason.BY_USER, 9)
    assert ("output", "bye") in lab.log_of("STOPPED")


def test_dots_that_never_end_their_line_are_shipped_while_they_come(lab: Lab, agent: AgentUnderTest) -> None:
    lab.begin(agent, "DOTS", ["sh", "-c", "while :; do printf .; sleep 0.2; done"])
    lab.wait_for_chunks("DOTS")
    lab.send(agent, m.Stop(session=agent.session, run="DOTS", attempt=1, reason=Reason.BY_USER))
    assert lab.finish("DOTS").outcome.end == "STOPPED"


def test_a_log_that_has_reached_its_cap_is_still_alive_for_the_control_plane(lab: Lab) -> None:
    agent = lab.start_welcomed(terms=Terms(cap=300), QUAYMASTER_DEBUG="true")
    agent.wait_for_line(msg="received", kind="welcome")
    script = "while :; do echo some output; sleep 0.1; done"
    lab.begin(agent, "CAPPED", ["sh", "-c", script], log_timeout_seconds=6, run_timeout_seconds=10)
    for _ in range(2):
        after = lab.control.count
        lab.control.wait(m.Renew, lambda renew: renew.run == "CAPPED" and renew.unseen, after=after)
    report = lab.finish("CAPPED")
    assert report.outcome.reason is Reason.RUN_TIMEOUT
    assert report.log.dropped > 300
    assert f"{report.log.dropped} bytes" in lab.log_of("CAPPED")[-1][1]


def test_grants_are_renewed_before_they_expire_and_the_log_stays_whole(lab: Lab, agent: AgentUnderTest) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 1; done"
    lab.begin(agent, "RENEWED", ["sh", "-c", script], grants=lab.grants("RENEWED", life_seconds=4))
    _, renew = lab.control.wait(m.Renew, lambda renew: renew.run == "RENEWED")
    assert renew.quiet_seconds < 8
    report = lab.finish("RENEWED")
    assert report.log.complete
    assert [text for _, text in lab.chunks_of("RENEWED")] == [str(i) for i in range(1, 9)]


def test_expired_grants_are_asked_for_again(lab: Lab, agent: AgentUnderTest) -> None:
    stale = lab.grants("EXPIRED", life_seconds=1).model_copy(update={"expires_in_seconds": 1800})
    time.sleep(2)
    lab.begin(agent, "EXPIRED", ["echo", "hello"], grants=stale)
    lab.control.wait(m.Renew, lambda renew: renew.run == "EXPIRED")
    assert lab.finish("EXPIRED").log.complete
    assert lab.log_of("EXPIRED") == [("output", "hello")]


def test_sigterm_before_go_hands_the_run_back(lab: Lab) -> None:
    agent = lab.start_welcomed()
    lab.assign(agent, "BACK", ["true"])
    lab.control.wait(m.Prepared, lambda prepared: prepared.run == "BACK")
    agent.process.send_signal(signal.SIGTERM)
    _, back = lab.control.wait(m.HandedBack, lambda back: back.run == "BACK")
    assert back.leaving
    after = lab.control.count
    lab.control.wait(m.Goodbye, after=after)
    assert agent.wait() == ExitCode.GOODBYE


def test_sigterm_while_running_interrupts_and_reports(lab: Lab) -> None:
    agent = lab.start_welcomed()
    lab.begin(agent, "CUT", ["sh", "-c", "echo up; sleep 300"])
    lab.wait_for_chunks("CUT")
    agent.process.send_signal(signal.SIGTERM)
    report = lab.finish("CUT")
    assert (report.outcome.reason, report.leaving) == (Reason.INTERRUPTED, True)
    lab.control.wait(m.Goodbye, lambda bye: bye.session == agent.session)
    assert agent.wait() == ExitCode.GOODBYE
    assert list((lab.folder / "state" / "agents").glob("*")) == []
    assert list((lab.folder / "state" / "work").glob("CUT*")) == []


def test_a_killed_agent_takes_its_phase_along_and_the_next_one_says_so(lab: Lab) -> None:
    crashed = lab.start_welcomed()
    lab.begin(crashed, "ORPHAN", ["sh", "-c", "setsid sleep 300 & echo up; sleep 300"])
    lab.wait_for_chunks("ORPHAN")
    crashed.process.kill()
    crashed.process.wait()
    second = lab.start_welcomed()
    assert second.registered
    assert second.registered.remains == [m.Remains(worker_id=crashed.worker, run="ORPHAN", attempt=1)]
    assert second.worker != crashed.worker
    assert marked(Mark("ORPHAN", 1)) == []
    assert list((lab.folder / "state" / "work").glob("ORPHAN*")) == []
    assert goodbye(lab, second) == 0
    third = lab.start_welcomed()
    assert third.registered
    assert third.registered.remains == []
    assert goodbye(lab, third) == 0


def test_several_agents_share_a_host_without_taking_each_other_for_dead(lab: Lab, agent: AgentUnderTest) -> None:
    until_told = f"while [ ! -e {lab.folder}/go-on ]; do sleep 0.1; done"
    lab.begin(agent, "NEIGHBOUR", ["sh", "-c", f"echo up; {until_told}; echo alive"])
    lab.wait_for_chunks("NEIGHBOUR")
    other = lab.start_welcomed()
    assert other.registered
    assert other.registered.remains == []
    (lab.folder / "go-on").touch()
    assert lab.finish("NEIGHBOUR").outcome.end == "FINISHED"
    assert goodbye(lab, other) == 0


def test_one_process_is_many_workers(lab: Lab) -> None:
    agent = lab.start("--count", "3", QUAYMASTER_STATE_DIR=str(lab.folder / "crew"))
    crew = lab.crew(agent, 3)
    # Each looks for what the others have in their environments, until all have had the time to begin.
    spy = "id -u; sleep 2; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep ^CREW_SECRET | sort -u; sleep 2"
    for worker in crew:
        secret = {"CREW_SECRET": worker.worker[-6:]}
        lab.begin(worker, f"CREW-{worker.worker[-6:]}", ["sh", "-c", spy], environment=secret)
    seen: list[list[str]] = []
    for worker in crew:
        assert lab.finish(f"CREW-{worker.worker[-6:]}").outcome.end == "FINISHED"
        seen.append([text for stream, text in lab.log_of(f"CREW-{worker.worker[-6:]}") if stream == "output"])
    if os.geteuid() == 0:
        assert len({uid for uid, *_ in seen}) == 3, "a uid for each worker"
        assert [found for _, *found in seen] == [[f"CREW_SECRET={worker.worker[-6:]}"] for worker in crew]
    agent.process.send_signal(signal.SIGTERM)
    assert agent.wait() == 0


def test_cycle_ends_the_agent_with_its_own_exit_code(lab: Lab, agent: AgentUnderTest) -> None:
    lab.send(agent, m.Cycle(generation=2))
    lab.control.wait(m.Goodbye, lambda bye: bye.session == agent.session)
    assert agent.wait() == ExitCode.CYCLED


def test_a_second_connection_with_the_same_id_ends_the_first(lab: Lab, agent: AgentUnderTest) -> None:
    code = f"""
import json, sys, threading
from awscrt import mqtt5
from quaymaster_worker.connection.crt import Crt
from quaymaster_worker.configuration.token import decode_token
token = decode_token({lab.token()!r})
crt = Crt(token, {lab.key!r})
done = threading.Event()
client = mqtt5.Client(mqtt5.ClientOptions(host_name="localhost", port={lab.mqtt_port}, bootstrap=crt.bootstrap,
    tls_ctx=crt.tls, connect_options=mqtt5.ConnectPacket(client_id={agent.worker!r}),
    on_lifecycle_event_connection_success_fn=lambda _: done.set()))
client.start()
assert done.wait(60)
threading.Event().wait(300)
"""
    rival = subprocess.Popen([sys.executable, "-c", code])
    try:
        assert agent.wait() == ExitCode.TAKEN_OVER
    finally:
        rival.kill()
        rival.wait()


def test_a_certificate_that_the_broker_alerts_about_ends_the_agent_within_seconds(lab: Lab, tmp_path: Path) -> None:
    """IoT Core answers a certificate that is not active with an alert; ministack only closes, which is an outage."""
    stranger = party("stranger")
    with broker(tmp_path, BROKER, ssl.TLSVersion.TLSv1_2) as endpoint:
        token = m.PoolToken(
            namespace="quaymaster",
            pool_id=lab.pool,
            mqtt=[endpoint],
            certificate=stranger.pem.decode(),
            ca=CA.pem.decode(),
        )
        agent = lab.start(
            QUAYMASTER_TOKEN=json.dumps(token.dump()),
            QUAYMASTER_POOL_PRIVATE_KEY=stranger.key_pem.decode(),
            QUAYMASTER_GIVE_UP_AFTER="1s",
        )
        assert agent.wait() == ExitCode.REJECTED
    assert "the broker refuses the pool's certificate (unknown CA)" in agent.log.read_text()


def test_a_policy_that_refuses_the_client_id_ends_the_agent_too(lab: Lab) -> None:
    made = lab.iot.create_certificate_from_csr(certificateSigningRequest=make_csr(lab.key), setAsActive=True)
    agent = lab.start(QUAYMASTER_TOKEN=lab.token(made["certificatePem"]), QUAYMASTER_GIVE_UP_AFTER="1s")
    assert agent.wait() == ExitCode.REJECTED
    assert "the broker refuses the connection (" in agent.log.read_text()


PLANTED = """
from quaymaster_worker.agent import Agent

on_message = Agent.on_message


def broken(self, payload):
    if b'"watch"' in payload:
        raise RuntimeError("planted")
    on_message(self, payload)


Agent.on_message = broken
"""


def test_an_agent_that_is_broken_ends_its_phase_and_itself_and_says_where(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(PLANTED)
    agent = lab.start_welcomed(PYTHONPATH=str(tmp_path))
    lab.begin(agent, "BROKEN", ["sh", "-c", "echo begun; sleep 300"])
    lab.wait_for_chunks("BROKEN")
    lab.send(agent, m.Watch(session=agent.session, run="BROKEN", attempt=1, for_seconds=1))
    assert agent.wait() == ExitCode.FAILED
    assert marked(Mark("BROKEN", 1)) == []
    assert "RuntimeError: planted" in agent.log.read_text()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("QUAYMASTER_POOL_PRIVATE_KEY", OURS.key_pem.decode(), "does not belong to the token's certificate"),
        ("QUAYMASTER_POOL_PRIVATE_KEY", OURS.key_pem.decode()[:300], "QUAYMASTER_POOL_PRIVATE_KEY"),
    ],
)
def test_mangled_credentials_are_a_sentence_and_no_restart(lab: Lab, variable: str, value: str, said: str) -> None:
    agent = lab.start(**{variable: value})
    assert agent.wait() == ExitCode.CONFIGURATION_REFUSED
    assert said in agent.log.read_text()
    assert "Traceback" not in agent.log.read_text()


def test_configuration_is_refused_with_its_exit_code(lab: Lab) -> None:
    agent = lab.start(QUAYMASTER_METADATA_zone="null")
    assert agent.wait() == ExitCode.CONFIGURATION_REFUSED
    assert "QUAYMASTER_METADATA_zone" in agent.log.read_text()


def test_neither_grants_nor_credentials_are_logged(lab: Lab) -> None:
    for log in lab.logs.glob("agent-*.log"):
        text = log.read_text()
        assert "X-Amz-Signature" not in text
        assert "BEGIN" not in text
