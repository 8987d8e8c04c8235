"""Tasks that come up, that do not, and that nobody tells of: real agents on the local cloud's ECS, and its faults."""

import time
from typing import Any

import pytest
from quaymaster.domain import keys
from quaymaster.domain.cost import CALLS_OF_A_RUN
from quaymaster.domain.ids import task_id, worker_name

from tests.shared.deployed.client import Credential, Deployment, wait_until

RED, BLUE = "registry.example/team/red:1", "registry.example/team/blue:1"
SLOW_REGISTRY = f"CannotPullContainerError: ref pull has been retried 5 time(s): failed to copy: {RED}: i/o timeout"
NO_IMAGE = f"CannotPullContainerError: pull image manifest has been retried 1 time(s): {RED}: not found"


def definitions(deployment: Deployment, pool: Credential) -> dict[str, str]:
    """The image of each active task definition of a pool."""
    ecs, family = deployment.cloud.ecs(), f"{deployment.cloud.namespace}-pool-{pool.pool_id}"
    arns = ecs.list_task_definitions(familyPrefix=family, status="ACTIVE")["taskDefinitionArns"]
    found = [ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"] for arn in arns]
    return {one["taskDefinitionArn"]: one["containerDefinitions"][0]["image"] for one in found}


def tasks(deployment: Deployment, pool: Credential) -> list[dict[str, Any]]:
    """The pool's tasks that have not stopped."""
    ecs, cluster = deployment.cloud.ecs(), deployment.cloud.outputs["ClusterName"]
    arns = ecs.list_tasks(cluster=cluster, family=f"{deployment.cloud.namespace}-pool-{pool.pool_id}")["taskArns"]
    return ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else []


def nothing_is_left(deployment: Deployment, pool: Credential) -> bool:
    """No task, no worker that is not over, no place; a sweep has looked."""
    deployment.cloud.reap()
    shown = deployment.read(f"/pools/{pool.pool_id}")
    return not tasks(deployment, pool) and shown["workers_reserved"] == 0 and shown["counts"]["starting"] == 0


def test_a_run_that_names_an_image_has_a_task_of_its_own(deployment: Deployment) -> None:
    pool = deployment.create_pool("fargate", max_workers=3, runs_per_worker=5, images="registry.example/team/*")
    first = deployment.send(pool.pool_id, "red", ["echo", "in red"], image=RED)
    found = deployment.wait(first)
    assert (found["state"], found["image"]) == ("FINISHED", RED)
    assert deployment.output(found) == ["in red"]
    ecs, cluster = deployment.cloud.ecs(), deployment.cloud.outputs["ClusterName"]
    task = task_id(worker_name(found["worker"]))
    (ran,) = ecs.describe_tasks(cluster=cluster, tasks=[task])["tasks"]
    assert ran["containers"][0]["image"] == RED
    # Others of that image use its definition; the pool's own task does not take their place.
    again, plain = (
        deployment.send(pool.pool_id, "red-again", ["true"], image=RED),
        deployment.send(pool.pool_id, "plain", ["true"]),
    )
    for run in (again, plain):
        assert deployment.wait(run)["state"] == "FINISHED"
    assert sorted(definitions(deployment, pool).values()).count(RED) == 1
    assert len(definitions(deployment, pool)) == 2
    shown = deployment.read(f"/pools/{pool.pool_id}")
    assert [(one["image"], one["trouble"]) for one in shown["images"]] == [(RED, None)]
    deployment.send(pool.pool_id, "elsewhere", ["true"], image="elsewhere.example/green:1")
    (reason,) = deployment.refusals("pool " + shown["name"]).values()
    assert "registry.example/team/*" in reason


def test_an_image_that_cannot_be_pulled_is_tried_again_or_ends_its_run_and_stops_no_other(
    deployment: Deployment,
) -> None:
    pool = deployment.create_pool("fargate", max_workers=3, images="registry.example/*")
    for kind in ("pull_fails", "never_start"):
        deployment.cloud.order_fault(kind, message=SLOW_REGISTRY)
    run = deployment.send(pool.pool_id, "slow", ["true"], image=RED)

    def is_explained() -> bool:
        images = deployment.read(f"/pools/{pool.pool_id}")["images"]
        return bool(images and images[0]["trouble"] and images[0]["trouble"]["times"] == 2)

    wait_until(is_explained)
    why = deployment.read(f"/runs/{run}/why")["why"]
    assert f"a Fargate task of its own, of image {RED}" in why
    assert "2 starts in a row came to nothing" in why
    assert "i/o timeout" in why
    other = deployment.send(pool.pool_id, "other", ["true"], image=BLUE)
    assert deployment.wait(other)["state"] == "FINISHED"
    status, _ = deployment.call("POST", f"/pools/{pool.pool_id}/retry")
    assert status == 200
    assert deployment.wait(run)["state"] == "FINISHED"
    for kind in ("pull_fails", "never_start"):
        deployment.cloud.order_fault(kind, message=NO_IMAGE)
        found = deployment.wait(deployment.send(pool.pool_id, kind, ["true"], image=RED))
        assert (found["state"], found["reason"]) == ("FAILED", "image_pull")
        assert "not found" in found["note"]
    assert deployment.read(f"/pools/{pool.pool_id}")["trouble"] is None


def test_warm_workers_are_kept_and_replaced_and_the_limit_holds_in_a_burst(deployment: Deployment) -> None:
    pool = deployment.create_pool("fargate", max_workers=3, warm=1, idle_timeout="1s")
    wait_until(lambda: deployment.cloud.reap() is None or deployment.wait_workers(pool.pool_id, 1))
    runs = [deployment.send(pool.pool_id, f"r{number}", ["sleep", "1"]) for number in range(6)]
    most = 0
    while any((deployment.run(run) or {}).get("state") != "FINISHED" for run in runs):
        most = max(most, len(tasks(deployment, pool)))
        time.sleep(0.2)
    assert most == 3
    # One more takes the place of those that were used.
    wait_until(lambda: deployment.cloud.reap() and deployment.wait_workers(pool.pool_id, 1))
    assert len(tasks(deployment, pool)) == 1


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [("events_lost", 0), ("events_twice", 0), ("events_late", 6), ("hang", 12), ("unlisted", 15), ("lose_answer", 0)],
)
def test_whatever_ecs_keeps_from_us_a_run_ends_once_and_nothing_is_left(
    deployment: Deployment, kind: str, seconds: float
) -> None:
    pool = deployment.create_pool("fargate", max_workers=2, start_timeout="2s")
    deployment.cloud.order_fault(kind, seconds=seconds)
    found = deployment.wait(deployment.send(pool.pool_id, "one", ["echo", "once"]), reaping=True)
    assert (found["state"], found["attempt"]) == ("FINISHED", 1)
    assert deployment.output(found) == ["once"]
    wait_until(lambda: nothing_is_left(deployment, pool), 180)


def test_a_task_that_never_becomes_a_worker_and_is_never_told_of_gives_its_place_back(deployment: Deployment) -> None:
    pool = deployment.create_pool("fargate", max_workers=1, start_timeout="2s")
    deployment.cloud.order_fault("slow_start", seconds=600)
    run = deployment.send(pool.pool_id, "one", ["true"])
    wait_until(lambda: len(tasks(deployment, pool)) == 1)
    (task,) = tasks(deployment, pool)
    assert "1 Fargate task" in deployment.read(f"/runs/{run}/why")["why"]
    cluster = deployment.cloud.outputs["ClusterName"]
    deployment.cloud.ecs().stop_task(cluster=cluster, task=task["taskArn"], reason="somebody's mistake")
    assert deployment.wait(run, reaping=True)["state"] == "FINISHED"
    wait_until(lambda: nothing_is_left(deployment, pool), 180)


def test_a_task_whose_launch_is_forgotten_is_stopped_by_one_sweep_and_its_run_gets_another(
    deployment: Deployment,
) -> None:
    pool = deployment.create_pool("fargate", max_workers=2, start_timeout="2s")
    deployment.cloud.order_fault("slow_start", seconds=600)
    run = deployment.send(pool.pool_id, "one", ["true"])
    wait_until(lambda: len(tasks(deployment, pool)) == 1)
    (stray,) = tasks(deployment, pool)
    table, name = deployment.cloud.client("dynamodb"), deployment.cloud.outputs["TableName"]
    launch = keys.launch(pool.pool_id, stray["startedBy"])
    key = {"pk": {"S": launch.pk}, "sk": {"S": launch.sk}}
    wait_until(lambda: "answered_at" in table.get_item(TableName=name, Key=key)["Item"])
    table.delete_item(TableName=name, Key=key)
    deployment.cloud.reap()
    ecs, cluster = deployment.cloud.ecs(), deployment.cloud.outputs["ClusterName"]
    (stopped,) = ecs.describe_tasks(cluster=cluster, tasks=[stray["taskArn"]])["tasks"]
    assert (stopped["desiredStatus"], stopped["stoppedReason"]) == (
        "STOPPED",
        "quaymaster: no launch has a place for it",
    )
    found = deployment.wait(run, reaping=True)
    assert found["state"] == "FINISHED"
    assert task_id(worker_name(found["worker"])) != task_id(stray["taskArn"])
    wait_until(lambda: nothing_is_left(deployment, pool), 180)


def test_a_pool_whose_image_is_gone_says_so_fails_what_waits_and_heals_when_it_is_changed(
    deployment: Deployment,
) -> None:
    pool = deployment.create_pool("fargate", max_workers=1, start_failure_limit="3s")
    deployment.cloud.order_fault("never_start", message=NO_IMAGE, count=3)
    run = deployment.send(pool.pool_id, "one", ["true"])
    # The first two are tried at once; the third after a pause, or when somebody says that it is mended.

    def has_failed_twice() -> bool:
        trouble = deployment.read(f"/pools/{pool.pool_id}")["trouble"]
        return trouble is not None and trouble["times"] == 2

    wait_until(has_failed_twice)
    assert "not found" in deployment.read(f"/runs/{run}/why")["why"]
    found = deployment.wait(run, seconds=180, reaping=True)
    assert (found["state"], found["reason"]) == ("FAILED", "image_pull")
    trouble = deployment.read(f"/pools/{pool.pool_id}")["trouble"]
    assert (trouble["kind"], trouble["times"]) == ("permanent", 3)
    assert trouble["since"] < trouble["last_at"]
    second = deployment.send(pool.pool_id, "two", ["true"])
    status, changed = deployment.call("PATCH", f"/pools/{pool.pool_id}", {"memory": 8192})
    assert status == 200
    assert changed["trouble"] is None
    found = deployment.wait(second)
    assert found["state"] == "FINISHED"
    ecs, cluster = deployment.cloud.ecs(), deployment.cloud.outputs["ClusterName"]
    (task,) = ecs.describe_tasks(cluster=cluster, tasks=[task_id(worker_name(found["worker"]))])["tasks"]
    assert (task["memory"], task["taskDefinitionArn"]) == ("8192", changed["task_definition"])


def test_an_agent_that_refuses_its_configuration_is_told_by_its_exit_code(deployment: Deployment) -> None:
    pool = deployment.create_pool("fargate", max_workers=1)
    token = f"{deployment.cloud.outputs['SsmPrefix']}/pools/{pool.pool_id}/token"
    deployment.cloud.client("ssm").put_parameter(Name=token, Value="garbage", Type="SecureString", Overwrite=True)
    run = deployment.send(pool.pool_id, "one", ["true"])
    wait_until(lambda: deployment.read(f"/pools/{pool.pool_id}")["trouble"] is not None)
    trouble = deployment.read(f"/pools/{pool.pool_id}")["trouble"]
    assert (trouble["kind"], trouble["reason"]) == ("permanent", "start_failed")
    assert "exit code 78" in trouble["note"]
    assert "exit code 78" in deployment.read(f"/runs/{run}/why")["why"]


def test_a_run_and_its_pool_show_what_they_cost(deployment: Deployment) -> None:
    pool = deployment.create_pool("fargate", max_workers=1)
    deployment.cloud.order_fault("slow_start", seconds=3)
    run = deployment.send(pool.pool_id, "one", ["sleep", "2"])
    deployment.wait(run)
    wait_until(lambda: nothing_is_left(deployment, pool))
    found = deployment.read(f"/runs/{run}")
    assert found["start_seconds"] >= 3
    assert found["worker_seconds"] >= 2
    hour = 2 * 0.04048 + 4 * 0.004445
    taken = found["start_seconds"] + found["worker_seconds"]
    assert found["cost"] == pytest.approx(taken / 3600 * hour, abs=2e-6)
    month = deployment.read(f"/pools/{pool.pool_id}")["month"]
    assert (month["tasks"], month["runs"], month["seconds"], month["spot_seconds"]) == (1, 1, 60, 0)
    assert month["cost"] == pytest.approx(60 / 3600 * hour, abs=2e-6)
    assert month["calls"] == CALLS_OF_A_RUN


def test_a_pool_with_an_image_that_was_never_pushed_is_refused(deployment: Deployment) -> None:
    repository = deployment.cloud.outputs["WorkerRepositoryUri"]
    deployment.create_pool("fargate", image=f"{repository}:0.1.0")
    with pytest.raises(AssertionError, match="push it first"):
        deployment.create_pool("fargate", image=f"{repository}:never")
