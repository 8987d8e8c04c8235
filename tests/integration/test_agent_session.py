"""Real agents on a real broker and store: sessions, phases, logs, timeouts, ends."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from longshore.domain import messages as m
from longshore.domain.states import Reason
from longshore_local.settings import Settings
from longshore_sealing.keys import make_csr
from longshore_worker.errors import ExitCode
from longshore_worker.processes import Mark, marked

from tests.integration.agent_lab import AgentUnderTest, Lab, open_lab

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def lab(local_settings: Settings) -> Iterator[Lab]:
    with open_lab(local_settings) as running:
        yield running


@pytest.fixture
def agent(lab: Lab) -> Iterator[AgentUnderTest]:
    started = lab.start_welcomed()
    yield started
    started.process.kill()
    started.process.wait()


def goodbye(lab: Lab, agent: AgentUnderTest) -> int:
    after = lab.ear.count
    agent.process.send_signal(signal.SIGTERM)
    lab.ear.wait(m.Goodbye, after=after)
    lab.send(agent, m.Done(session=agent.session, event="goodbye"))
    return agent.process.wait(10)


def test_an_agent_registers_with_its_metadata_and_limits_and_says_goodbye(lab: Lab) -> None:
    agent = lab.start_welcomed(
        LONGSHORE_METADATA_zone="a", LONGSHORE_LAUNCH="L1", LONGSHORE_LAUNCHER_LOGS_TIMEOUT="90s"
    )
    assert agent.registered
    assert (agent.registered.metadata, agent.registered.launch) == ({"zone": "a"}, "L1")
    assert (agent.registered.log_timeout_seconds, agent.registered.run_timeout_seconds) == (90, None)
    assert goodbye(lab, agent) == ExitCode.GOODBYE


def test_a_phase_runs_with_its_log_in_the_store(lab: Lab, agent: AgentUnderTest) -> None:
    script = "echo out; sleep 0.3; echo err >&2; echo user $(id -u); printf unterminated; exit 3"
    lab.begin(agent, "PHASE", ["sh", "-c", script], environment={"GIVEN": "x"})
    report = lab.finish(agent, "PHASE")
    assert report.outcome == m.Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=3, note="exit code 3")
    user = "65534" if os.geteuid() == 0 else str(os.geteuid())
    expected = [("output", text) for text in ("out", "err", f"user {user}", "unterminated")]
    assert lab.log_of("PHASE") == lab.chunks_of("PHASE") == expected
    assert lab.end_of("PHASE") == m.LogEnd(run="PHASE", attempt=1, digest=report.log, outcome=report.outcome)


def test_a_repeated_assignment_and_go_begin_nothing_again(lab: Lab, agent: AgentUnderTest, tmp_path: Path) -> None:
    lab.begin(agent, "ONCE", ["true"])
    first = lab.finish(agent, "ONCE")
    after = lab.ear.count
    lab.assign(agent, "ONCE", ["true"])
    lab.send(agent, m.Go(session=agent.session, run="ONCE", attempt=1))
    _, again = lab.ear.wait(m.PhaseFinished, after=after)
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
    assert lab.finish(agent, "PACKED").outcome.end == "FINISHED"
    assert lab.log_of("PACKED") == [("output", "packed")]


def test_a_workspace_that_is_not_what_was_promised_fails_before_anything_begins(
    lab: Lab, agent: AgentUnderTest
) -> None:
    grant = m.WorkspaceGrant(url=lab.workspace("inputs/x", b"something else"), sha256="0" * 64)
    lab.assign(agent, "FORGED", ["true"], workspace=grant)
    outcome = lab.finish(agent, "FORGED").outcome
    assert (outcome.end, outcome.reason) == ("FAILED", Reason.WORKSPACE)
    assert "digest" in str(outcome.note)


def test_silence_is_warned_about_and_ended_with_all_its_processes(lab: Lab, agent: AgentUnderTest) -> None:
    script = "echo begun; trap '' TERM; setsid sleep 300 & sleep 300"
    lab.begin(agent, "SILENT", ["sh", "-c", script], log_timeout_seconds=2.5, warning_seconds=1)
    began = time.monotonic()
    report = lab.finish(agent, "SILENT")
    assert 2.5 <= time.monotonic() - began < 8
    assert (report.outcome.end, report.outcome.reason) == ("FAILED", Reason.LOG_TIMEOUT)
    assert marked(Mark("SILENT", 1)) == []
    said = [text for stream, text in lab.log_of("SILENT") if stream == "agent"]
    assert [("no output" in text) for text in said] == [True, True]


def test_a_phase_that_talks_on_is_ended_by_the_run_timeout(lab: Lab, agent: AgentUnderTest) -> None:
    script = "while :; do echo tick; sleep 0.1; done"
    lab.begin(agent, "ENDLESS", ["sh", "-c", script], log_timeout_seconds=1, run_timeout_seconds=3)
    assert lab.finish(agent, "ENDLESS").outcome.reason is Reason.RUN_TIMEOUT


def test_extended_timeouts_are_obeyed(lab: Lab, agent: AgentUnderTest) -> None:
    lab.begin(agent, "LONGER", ["sleep", "4"], log_timeout_seconds=2)
    longer = m.Extend(session=agent.session, run="LONGER", attempt=1, log_timeout_seconds=30, run_timeout_seconds=60)
    lab.send(agent, longer)
    assert lab.finish(agent, "LONGER").outcome.end == "FINISHED"


def test_stop_gives_the_command_time_and_its_reason_is_reported(lab: Lab, agent: AgentUnderTest) -> None:
    lab.begin(agent, "STOPPED", ["sh", "-c", "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.1; done"])
    lab.wait_for_chunks("STOPPED")
    lab.send(agent, m.Stop(session=agent.session, run="STOPPED", attempt=1, reason=Reason.BY_USER))
    outcome = lab.finish(agent, "STOPPED").outcome
    assert (outcome.end, outcome.reason, outcome.exit_code) == ("STOPPED", Reason.BY_USER, 9)
    assert ("output", "bye") in lab.log_of("STOPPED")


def test_grants_are_renewed_before_they_expire_and_the_log_stays_whole(lab: Lab, agent: AgentUnderTest) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 1; done"
    after = lab.ear.count
    lab.begin(agent, "RENEWED", ["sh", "-c", script], grants=lab.grants("RENEWED", life_seconds=4))
    _, renew = lab.ear.wait(m.Renew, after=after)
    assert renew.quiet_seconds < 2
    fresh = m.NewGrants(session=agent.session, run="RENEWED", attempt=1, grants=lab.grants("RENEWED"))
    lab.send(agent, fresh)
    report = lab.finish(agent, "RENEWED")
    assert report.log.complete
    assert [text for _, text in lab.chunks_of("RENEWED")] == [str(i) for i in range(1, 9)]


def test_expired_grants_are_asked_for_again(lab: Lab, agent: AgentUnderTest) -> None:
    stale = lab.grants("EXPIRED", life_seconds=1).model_copy(update={"expires_in_seconds": 1800})
    time.sleep(2)
    after = lab.ear.count
    lab.begin(agent, "EXPIRED", ["echo", "hello"], grants=stale)
    lab.ear.wait(m.Renew, after=after)
    fresh = m.NewGrants(session=agent.session, run="EXPIRED", attempt=1, grants=lab.grants("EXPIRED"))
    lab.send(agent, fresh)
    assert lab.finish(agent, "EXPIRED").log.complete
    assert lab.log_of("EXPIRED") == [("output", "hello")]


def test_sigterm_before_go_hands_the_run_back(lab: Lab) -> None:
    agent = lab.start_welcomed()
    lab.assign(agent, "BACK", ["true"])
    lab.ear.wait(m.Prepared, lambda prepared: prepared.run == "BACK")
    agent.process.send_signal(signal.SIGTERM)
    _, back = lab.ear.wait(m.HandedBack, lambda back: back.run == "BACK")
    assert back.leaving
    after = lab.ear.count
    lab.send(agent, m.Done(session=agent.session, event="handed_back", run="BACK", attempt=1))
    lab.ear.wait(m.Goodbye, after=after)
    lab.send(agent, m.Done(session=agent.session, event="goodbye"))
    assert agent.process.wait(10) == ExitCode.GOODBYE


def test_sigterm_while_running_interrupts_and_reports(lab: Lab) -> None:
    agent = lab.start_welcomed()
    lab.begin(agent, "CUT", ["sh", "-c", "echo up; sleep 300"])
    lab.wait_for_chunks("CUT")
    agent.process.send_signal(signal.SIGTERM)
    report = lab.finish(agent, "CUT")
    assert (report.outcome.reason, report.leaving) == (Reason.INTERRUPTED, True)
    lab.ear.wait(m.Goodbye, lambda bye: bye.session == agent.session)
    lab.send(agent, m.Done(session=agent.session, event="goodbye"))
    assert agent.process.wait(10) == ExitCode.GOODBYE
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
    lab.begin(agent, "NEIGHBOUR", ["sh", "-c", "sleep 2; echo alive"])
    other = lab.start_welcomed()
    assert other.registered
    assert other.registered.remains == []
    assert lab.finish(agent, "NEIGHBOUR").outcome.end == "FINISHED"
    assert goodbye(lab, other) == 0


def test_one_process_is_many_workers(lab: Lab) -> None:
    after = lab.ear.count
    agent = lab.start("--count", "3", LONGSHORE_STATE_DIR=str(lab.folder / "crew"))
    workers: dict[str, m.Registered] = {}
    while len(workers) < 3:
        worker, registered = lab.ear.wait(
            m.Registered, lambda r: r.session not in {w.session for w in workers.values()}, after=after
        )
        workers[worker] = registered
    for worker, registered in workers.items():
        crew = AgentUnderTest(agent.process, agent.log, worker, registered.session)
        lab.welcome(crew)
        lab.begin(crew, f"CREW-{worker[-6:]}", ["sh", "-c", "sleep 1; echo done"])
    for worker, registered in workers.items():
        crew = AgentUnderTest(agent.process, agent.log, worker, registered.session)
        assert lab.finish(crew, f"CREW-{worker[-6:]}").outcome.end == "FINISHED"
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(15) == 0


def test_cycle_ends_the_agent_with_its_own_exit_code(lab: Lab, agent: AgentUnderTest) -> None:
    lab.send(agent, m.Cycle(generation=2))
    lab.ear.wait(m.Goodbye, lambda bye: bye.session == agent.session)
    lab.send(agent, m.Done(session=agent.session, event="goodbye"))
    assert agent.process.wait(10) == ExitCode.CYCLED


def test_a_second_connection_with_the_same_id_ends_the_first(lab: Lab, agent: AgentUnderTest) -> None:
    code = f"""
import json, sys, threading
from awscrt import mqtt5
from longshore_worker.crt import Crt
from longshore_worker.token import decode_token
token = decode_token({lab.token()!r})
crt = Crt(token, {lab.key!r})
done = threading.Event()
client = mqtt5.Client(mqtt5.ClientOptions(host_name="localhost", port={lab.mqtt_port}, bootstrap=crt.bootstrap,
    tls_ctx=crt.tls, connect_options=mqtt5.ConnectPacket(client_id={agent.worker!r}),
    on_lifecycle_event_connection_success_fn=lambda _: done.set()))
client.start()
assert done.wait(10)
threading.Event().wait(20)
"""
    rival = subprocess.Popen([sys.executable, "-c", code])
    try:
        assert agent.process.wait(15) == ExitCode.TAKEN_OVER
    finally:
        rival.kill()
        rival.wait()


def test_a_certificate_that_is_refused_ends_the_agent_with_a_message(lab: Lab) -> None:
    made = lab.iot.create_certificate_from_csr(certificateSigningRequest=make_csr(lab.key), setAsActive=False)
    agent = lab.start(LONGSHORE_TOKEN=lab.token(made["certificatePem"]), LONGSHORE_GIVE_UP_AFTER="1s")
    assert agent.process.wait(60) == ExitCode.REJECTED
    assert "refuses" in agent.log.read_text()


def test_configuration_is_refused_with_its_exit_code(lab: Lab) -> None:
    agent = lab.start(LONGSHORE_METADATA_zone="null")
    assert agent.process.wait(20) == ExitCode.CONFIGURATION_REFUSED
    assert "LONGSHORE_METADATA_zone" in agent.log.read_text()


def test_neither_grants_nor_credentials_are_logged(lab: Lab) -> None:
    for log in lab.folder.glob("agent-*.log"):
        text = log.read_text()
        assert "X-Amz-Signature" not in text
        assert "BEGIN" not in text
