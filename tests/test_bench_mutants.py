"""The hunt for ONNX files that do harm behind the screen: its mutants, and a child whose death is noticed."""

import os
import signal
from typing import Any

import onnx
import pytest
from onnx_graphs import float_net, quantized_net

from benchmarks import mutants


def test_mutants_do_no_harm_and_many_get_as_far_as_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(mutants, "untrained_files", lambda *_: {"float32": float_net(), "int8": quantized_net()})
    monkeypatch.setattr(mutants, "NETWORKS", mutants.NETWORKS[-1:])
    monkeypatch.setattr(mutants, "record", lambda *entry: told.update(entry[-1]))
    mutants.run(100)
    assert told["harm"] == {} and told["refused"] + told["ran"] == told["mutants"] == 100
    assert told["ran"] > 10 < told["refused"]


def test_half_of_them_are_whole_messages_with_other_content() -> None:
    file = quantized_net()
    made = list(mutants.mutants([file], 40))
    assert made == list(mutants.mutants([file], 40)) and len(set(made)) > 35
    parsed = [onnx.ModelProto.FromString(mutant) for mutant in made[1::2]]
    assert sum(model != onnx.ModelProto.FromString(file) for model in parsed) > 15


def test_a_death_is_noticed_and_the_next_file_is_read() -> None:
    child = mutants.Child()
    try:
        assert child.verdict(float_net()) == "ran" and child.verdict(b"none") == "refused"
        os.kill(child._process.pid or 0, signal.SIGSEGV)
        child._process.join()
        assert child.verdict(float_net()) == f"death {-signal.SIGSEGV}" and child.verdict(float_net()) == "ran"
    finally:
        child.end()
