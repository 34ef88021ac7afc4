"""What is asked of a cluster as a whole: to be at rest, to be mended, to place a model and to withdraw it."""

from collections.abc import Callable

import aiohttp

from scripts.fault_runs.cluster import Cluster, ClusterBroken, Node, together
from scripts.fault_runs.history import Action, Healed
from scripts.fault_runs.recorder import Recorder
from scripts.fault_runs.rest import Views, instances
from scripts.fault_runs.scenarios import Layout

CALL_S = 30.0
WITHDRAWN_S = 30.0

Amiss = Callable[[Views], str]
"""What is amiss in what the nodes see; empty: nothing."""


def views(cluster: Cluster) -> Views:
    """What each live node sees now."""
    return {node.name: node.watcher.seen for node in cluster.live}


async def wait_for(cluster: Cluster, recorder: Recorder, amiss: Amiss, within_s: float) -> None:
    """Wait until nothing is amiss. Raises ClusterBroken, with what still is."""
    await recorder.until(lambda: not _amiss(cluster, amiss), within_s)
    if reason := _amiss(cluster, amiss):
        raise ClusterBroken(f"{reason} (waited {within_s:g} s)")


def _amiss(cluster: Cluster, amiss: Amiss) -> str:
    for node in cluster.live:
        if not node.runs:
            return f"{node.name} has ended by itself:\n{node.last_words()}"
        if not node.watcher.connected:
            return f"{node.name} does not tell what it sees"
    return amiss(views(cluster))


async def mend(cluster: Cluster, recorder: Recorder) -> None:
    """Undo what faults are left; who hangs is started anew. Raises ClusterBroken."""
    for node in cluster.nodes:
        cluster.mend(node)
    broken = [node for node in cluster.nodes if node.stopped or not node.runs]
    await together(*(_renew(cluster, recorder, node) for node in broken))


async def _renew(cluster: Cluster, recorder: Recorder, node: Node) -> None:
    await node.kill()
    recorder.add(Healed(at_s=recorder.now_s, action=Action.KILL_NODE, node=node.name))
    await cluster.start_again(node)


async def place(node: Node, model: str, layout: Layout) -> None:
    """Have the model placed. Raises ClusterBroken when that is refused."""
    body = {
        "model": model,
        "sharding": layout.sharding,
        "stages": layout.stages,
        "tensor": layout.tensor,
    }
    await _call(node, "POST", "/v1/instances", body)


async def withdraw_all(cluster: Cluster, recorder: Recorder, model: str | None = None) -> None:
    """Have no instance of the model run, or of any, and wait until every node sees none.

    Raises ClusterBroken.
    """
    for name in placed(cluster, model):
        await _call(cluster.live[0], "DELETE", f"/v1/instances/{name}", None)

    def left(seen: Views) -> str:
        names = {each.instance for sights in seen.values() for each in instances(sights, model)}
        return f"{', '.join(sorted(names))} should be withdrawn" if names else ""

    await wait_for(cluster, recorder, left, WITHDRAWN_S)


def placed(cluster: Cluster, model: str | None = None) -> set[str]:
    """The instances of a model, or all, that any live node sees."""
    return {each.instance for seen in views(cluster).values() for each in instances(seen, model)}


async def _call(node: Node, method: str, path: str, body: dict[str, object] | None) -> None:
    timeout = aiohttp.ClientTimeout(total=CALL_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, node.url + path, json=body) as response,
        ):
            text = await response.text()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ClusterBroken(f"{method} {path} on {node.name}: {type(error).__name__} {error}") from error
    if response.status >= 300:
        raise ClusterBroken(f"{method} {path} on {node.name}: {response.status} {text}")
