"""Showing a run."""

from datetime import timedelta

from quaymaster.domain.api import ChangeView, LogPlace, PhaseView, RunSummary, RunView
from quaymaster.domain.durations import format_duration
from quaymaster.domain.messages import Usage

from quaymaster_cli.showing.output import Output, tell

MIB = 1 << 20
NAMED_BY = {
    "request": "its request",
    "launcher": "its worker's host",
    "pool": "its pool",
    "template": "the deployment",
}
PHASE_COLUMNS = ("PHASE", "STATE", "ATTEMPT", "EXIT CODE", "BEGAN", "TOOK", "SAYS")


def show_run(output: Output, run: RunView) -> None:
    """Print a run."""
    if output.json:
        output.show_json(run)
        return
    output.fields(_fields(run))
    if run.phases:
        output.table(PHASE_COLUMNS, [_phase(phase) for phase in run.phases])
    for change in run.history:
        output.line("  ", _change(change))


def _fields(run: RunView) -> list[tuple[str, object]]:
    ending = f"{run.ending.reason} by {run.ending.by}, until {tell(run.ending.deadline)}" if run.ending else None
    if run.ending and run.ending.note:
        ending = f"{ending}: {run.ending.note}"
    return [
        ("run", run.run),
        ("state", run.state),
        ("reason", run.reason),
        ("exit code", run.exit_code),
        ("note", run.note),
        ("ending", ending),
        ("request", run.request_id),
        ("retry of", run.retry_of),
        ("retried as", run.retried_as),
        ("requester", run.requester),
        ("pool", f"{run.pool_name} ({run.pool})" if run.pool_name else run.pool),
        ("type", run.type),
        ("stack", run.stack),
        ("command", " ".join(run.command)),
        ("environment", " ".join(run.environment) or None),
        ("confirm by", run.confirm_by),
        ("left", f"{run.left.bytes} bytes, sha256 {run.left.sha256}" if run.left else None),
        ("image", f"{run.image} (named by {NAMED_BY[run.image_from]})" if run.image_from else run.image),
        ("workspace", run.workspace),
        ("worker", run.worker),
        ("attempt", run.attempt),
        ("log timeout", format_duration(run.log_timeout) if run.log_timeout else None),
        ("run timeout", format_duration(run.run_timeout) if run.run_timeout else None),
        ("accepted", run.accepted_at),
        ("began", run.begun_at),
        ("last output", run.output_at),
        ("uploads", "failing" if run.upload_failing else None),
        ("ended", run.ended_at),
        ("took", took(run)),
        ("worker time", _worker_time(run)),
        *_usage(run.usage),
        ("log", _place(run.log)),
        ("log lines", run.digest.lines if run.digest else None),
        ("output left out", f"{run.digest.dropped} bytes" if run.digest and run.digest.dropped else None),
    ]


def _usage(usage: Usage | None) -> list[tuple[str, object]]:
    """What its commands have used, beside what they might have."""
    if not usage:
        return []
    cpus = f" on {usage.millicpus / 1000:g} processors" if usage.millicpus else ""
    throttled = f", throttled for {usage.throttled_ms / 1000:.1f} s" if usage.throttled_ms else ""
    limit = f" of {usage.memory_limit_bytes / MIB:.0f}" if usage.memory_limit_bytes else ""
    return [
        ("CPU", f"{usage.cpu_ms / 1000:.1f} s in {usage.elapsed_ms / 1000:.1f} s{cpus}{throttled}"),
        ("memory at most", f"{usage.memory_peak_bytes / MIB:.0f}{limit} MiB"),
    ]


def _phase(phase: PhaseView) -> list[object]:
    said = {"needs confirmation": phase.needs_confirmation, "read-only": phase.read_only, "retryable": phase.retryable}
    return [
        phase.name,
        phase.state,
        phase.attempt,
        phase.exit_code,
        phase.begun_at,
        took(phase),
        ", ".join(name for name, is_so in said.items() if is_so) or None,
    ]


def took(run: RunSummary | PhaseView) -> str | None:
    """How long the command ran, to the second; None while it has not ended."""
    if not run.begun_at or not run.ended_at:
        return None
    whole = timedelta(seconds=round((run.ended_at - run.begun_at).total_seconds()))
    return format_duration(whole)


def _worker_time(run: RunView) -> str | None:
    """How long workers were busy with it, how long tasks took to start for it, and what both have cost on Fargate."""
    if not run.worker_seconds and not run.start_seconds:
        return None
    spent = format_duration(timedelta(seconds=run.worker_seconds))
    if run.start_seconds:
        spent += f" and {format_duration(timedelta(seconds=run.start_seconds))} to start"
    if run.spot_seconds:
        spent += f", {format_duration(timedelta(seconds=run.spot_seconds))} of it on Spot"
    return spent if run.cost is None else f"{spent} (${run.cost:.4f})"


def _place(place: LogPlace | None) -> str | None:
    return f"s3://{place.bucket}/{place.key}" if place else None


def _change(change: ChangeView) -> str:
    return f"{tell(change.at)}  {change.state}  by {change.by}" + (f": {change.note}" if change.note else "")
