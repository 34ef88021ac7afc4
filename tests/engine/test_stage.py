"""A stage computes its layers alone, and has nothing else in memory."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module

from engine.border import Network
from engine.examine import examine, pipeline_problem
from engine.memory.caches import Cache, merged
from engine.sharding.group import Place
from engine.sharding.stage import Stage
from scripts.make_model import make_model
from tests.engine.process import ROOT

TOKENS = [31, 32, 33, 34, 35]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model("llama", tmp_path_factory.mktemp("stage") / "llama", layers=4, hidden=128)


@pytest.fixture(autouse=True)
def files_are_closed() -> Iterator[None]:
    """Weights that nobody asks for keep their file open, and layers and stage hold each other."""
    yield
    gc.collect()


def stage_of(folder: Path, first: int, end: int, samples: bool = False) -> Stage:
    stage = Stage(Network(folder), first, end)
    stage.materialise(samples, lambda done, of: None)
    return stage


def caches_of(stage: Stage) -> list[Cache]:
    return merged([stage.fresh()])


def test_stages_in_a_row_are_the_model(folder: Path) -> None:
    whole = Network(folder)
    tokens = mx.array([TOKENS])
    expected = whole.forward(tokens, whole.make_caches())
    hidden, logits = None, mx.zeros(())
    for first, end in ((0, 1), (1, 3), (3, 4)):
        stage = stage_of(folder, first, end, samples=end == 4)
        hidden, logits = stage.forward(tokens, hidden, caches_of(stage))
    assert mx.allclose(logits, expected, atol=1e-4)


MEASURE = """
import sys
import mlx.core as mx
from pathlib import Path
from engine.border import Network
from engine.memory.caches import merged
from engine.sharding.stage import Stage

first, end, samples = (int(word) for word in sys.argv[2:])
stage = Stage(Network(Path(sys.argv[1])), first, end)
stage.materialise(bool(samples), lambda done, of: None)
received = None if stage.first else mx.zeros((1, 3, 128))
hidden, logits = stage.forward(mx.array([[1, 2, 3]]), received, merged([stage.fresh()]))
mx.eval(hidden)
del hidden, logits, received
print(mx.get_active_memory())
"""


def memory_of(folder: Path, first: int, end: int, samples: bool) -> int:
    command = [sys.executable, "-c", MEASURE, str(folder), str(first), str(end), str(int(samples))]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def test_a_stage_has_its_own_weights_in_memory_and_no_others(folder: Path) -> None:
    sizes: dict[str, int] = {}
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    for name, weight in weights.items():
        part = name.split(".layers.")[1].split(".")[0] if ".layers." in name else name
        sizes[part] = sizes.get(part, 0) + weight.nbytes
    layer, embedding, head = sizes["0"], sizes["model.embed_tokens.weight"], sizes["lm_head.weight"]
    slack = 120_000
    assert memory_of(folder, 0, 1, samples=False) == pytest.approx(layer + embedding, abs=slack)
    assert memory_of(folder, 1, 3, samples=False) == pytest.approx(2 * layer, abs=slack)
    assert memory_of(folder, 3, 4, samples=True) == pytest.approx(layer + head, abs=slack)
    # Where another rank of its stage samples, it needs no head.
    assert memory_of(folder, 3, 4, samples=False) == pytest.approx(layer, abs=slack)


def test_a_model_whose_layers_stand_in_a_row_can_be_divided(folder: Path) -> None:
    findings = examine(folder)
    assert (findings.pipeline_problem, findings.tensor_problem) == ("", "")


class _Layer(Module):
    def __call__(self, hidden: mx.array, *rest: object) -> mx.array:
        return hidden + 1


class _Entangled:
    """A model that does something to hidden states besides its layers."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.layers = [_Layer.__new__(_Layer) for _ in range(3)]

    def __call__(self, tokens: mx.array, cache: object) -> mx.array:
        hidden = mx.zeros((*tokens.shape, 8))
        first = self.layers[0](hidden)
        match self.kind:
            case "skips":
                return self.layers[2](first)
            case "adds":
                return self.layers[2](self.layers[1](first + hidden))
            case "hands on":
                return self.layers[2](self.layers[1](first, first), first)
            case "forgets":
                return self.layers[1](first)
            case _:
                return self.layers[2](self.layers[1](first))


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("plain", ""),
        ("skips", "layer 2 is called where layer 1 should be"),
        ("adds", "something is done to hidden states between layers 0 and 1"),
        ("hands on", r"layer 1 is given an array of shape \[1, 3, 8\]"),
        ("forgets", "only 2 of 3 layers are called"),
    ],
)
def test_a_model_whose_layers_exchange_more_is_told_from_others(kind: str, problem: str) -> None:
    network = Network.__new__(Network)
    network.model = _Entangled(kind)
    found = pipeline_problem(network)
    if not problem:
        assert found == ""
    else:
        with pytest.raises(ValueError, match=problem):
            raise ValueError(found)


def test_a_model_whose_layers_share_caches_is_computed_undivided(tmp_path: Path) -> None:
    folder = make_model("gemma4", tmp_path / "gemma4", layers=4, hidden=128)
    findings = examine(folder)
    assert findings.pipeline_problem == "it has 4 layers, but 2 of them keep a cache"
    assert findings.tensor_problem
    plain = Network(folder)
    tokens = mx.array([TOKENS])
    stage = Stage(Network(folder), 0, 4, whole=True)
    stage.materialise(True, lambda done, of: None)
    _, logits = stage.forward(tokens, None, caches_of(stage))
    assert mx.allclose(logits, plain.forward(tokens, plain.make_caches()), atol=1e-4)


def test_the_examination_can_be_run_as_a_program(folder: Path) -> None:
    command = [sys.executable, "-m", "engine.examine", str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == '{"pipeline_problem":"","tensor_problem":"","kv_quant_problem":""}\n'
    wrong = subprocess.run([*command[:-1], str(folder / "nothing")], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "config.json" in wrong.stderr


ACROSS = """
import os
import sys
import mlx.core as mx
import zmq
from engine.ranks.hop import Collective, Inlet, Outlet, Parcel
from engine.inbox import Bell

rank, hosts, endpoint = sys.argv[1:]
os.environ.update(MLX_RANK=rank, MLX_HOSTFILE=hosts)
group = mx.distributed.init(strict=True, backend="ring")
hidden = mx.arange(24, dtype=mx.float32).astype(mx.bfloat16).reshape(2, 3, 4)
with zmq.Context() as context:
    if group.rank() == 0:
        with context.socket(zmq.PUSH) as socket:
            socket.connect(endpoint)
            Outlet(socket, Collective(group, target=1)).send(Parcel(b"plan", hidden))
    else:
        with context.socket(zmq.PULL) as socket:
            socket.bind(endpoint)
            parcel = Inlet(socket, Bell(), Collective(group, source=0)).receive()
            assert parcel.header == b"plan"
            assert mx.array_equal(parcel.hidden, hidden) and parcel.hidden.dtype == mx.bfloat16
"""


def test_hidden_states_travel_through_mlxs_own_groups_as_well(tmp_path: Path) -> None:
    places = [Place("127.0.0.1") for _ in range(2)]
    hosts = tmp_path / "hosts.json"
    hosts.write_text(str([[place.endpoint] for place in places]).replace("'", '"'))
    program = [sys.executable, "-c", ACROSS]
    processes = [
        subprocess.Popen([*program, str(rank), str(hosts), f"ipc://{tmp_path}/hop"], cwd=ROOT)
        for rank in range(2)
    ]
    try:
        assert [process.wait(30) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for place in places:
            place.close()
