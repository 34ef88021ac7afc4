"""The accelerator: what the systems' commands print, read right."""

import pytest

from host import accelerator

COMMANDS = {
    "machdep.cpu.brand_string": "Apple M4 Max\n",
    "iogpu.wired_limit_mb": "98304\n",
}


def test_this_machine_computes_on_something() -> None:
    here = accelerator.read()
    assert here.kind in {"metal", "cuda", "cpu"}
    assert here.name


def test_a_mac_is_named_by_its_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("host.commands.output", lambda *command: COMMANDS.get(command[-1]))
    here = accelerator.read()
    assert (here.kind, here.name, here.memory_bytes) == ("metal", "Apple M4 Max", 96 * 2**30)


def test_no_limit_set_is_no_limit_known() -> None:
    assert accelerator.parse_wired_limit("0\n") is None
    assert accelerator.parse_wired_limit("") is None


def test_an_nvidia_gpu_without_a_cuda_build_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("host.accelerator._has_cuda_build", lambda: False)
    monkeypatch.setattr("host.commands.output", lambda *_: "NVIDIA GeForce RTX 4090, 24564\n")
    here = accelerator.read()
    assert here.kind == "cpu"
    assert "EXO_CUDA=1" in here.note


def test_an_nvidia_gpu_with_a_cuda_build_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("host.accelerator._has_cuda_build", lambda: True)
    monkeypatch.setattr("host.commands.output", lambda *_: "NVIDIA GeForce RTX 4090, 24564\n")
    here = accelerator.read()
    assert (here.kind, here.name, here.memory_bytes) == ("cuda", "NVIDIA GeForce RTX 4090", 24564 * 2**20)


def test_unified_memory_is_not_counted_as_the_gpus_own() -> None:
    [gpu] = accelerator.parse_nvidia_smi("NVIDIA GB10, [N/A]\n")
    assert gpu.memory_bytes is None


def test_what_nvidia_smi_says_when_it_fails_is_no_gpu() -> None:
    assert accelerator.parse_nvidia_smi("NVIDIA-SMI has failed because it couldn't communicate") == []
    assert accelerator.parse_nvidia_smi("") == []


def test_an_arm_machine_says_no_processor_name() -> None:
    assert accelerator.parse_cpuinfo("processor\t: 0\nBogoMIPS\t: 50.00\n") == ""
    assert (
        accelerator.parse_cpuinfo("model name\t: AMD Ryzen 9\nmodel name\t: AMD Ryzen 9\n") == "AMD Ryzen 9"
    )
