"""The accelerator model: SCALE-Sim's cycles, invariants, and what it says about depthwise layers and memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftlet.cost.systolic import Conv, Elementwise, SystolicArray, VectorDsp, milliseconds, simulate, utilisation
from swiftlet.errors import BadInput

# "Total Cycles" of scalesim 3.0.0 (NumPy 1.26.4), Dataflow ws, InterfaceBandwidth USER, buffers of 8,192 kB each, no
# sparsity. It numbers cycles from 0, so a layer takes one more. (c_in, c_out, kernel, output), (rows, columns), cycles
SCALE_SIM = [
    ((64, 64, 3, 14), (64, 64), 3473),
    ((64, 64, 1, 14), (64, 64), 385),
    ((63, 64, 1, 14), (64, 64), 385),
    ((65, 65, 1, 14), (64, 64), 1543),
    ((96, 160, 1, 7), (64, 64), 1433),
    ((3, 32, 3, 32), (64, 64), 1213),
    ((24, 40, 5, 14), (64, 64), 3859),
    ((1, 1, 3, 14), (64, 64), 385),
    ((512, 100, 1, 1), (64, 64), 3055),
    ((40, 120, 3, 29), (64, 64), 12371),
    ((960, 160, 1, 7), (64, 64), 10754),
    ((3, 64, 7, 54), (64, 64), 9317),
    ((64, 64, 3, 14), (16, 32), 18575),
    ((65, 65, 1, 14), (16, 32), 3869),
    ((24, 40, 5, 14), (16, 32), 19607),
    ((512, 100, 1, 1), (16, 32), 8063),
    ((40, 120, 3, 29), (128, 32), 13523),
    ((960, 160, 1, 7), (128, 32), 13399),
]


def conv(c_in: int, c_out: int, kernel: int = 1, output: int = 14, groups: int = 1) -> Conv:
    return Conv(
        name="x", c_in=c_in, c_out=c_out, kernel=(kernel, kernel), output=(output, output), groups=groups
    )  # fmt: skip


@pytest.mark.parametrize(("layer", "array", "cycles"), SCALE_SIM)
def test_cycles_are_the_simulators(layer, array, cycles):
    rows, columns = array
    assert SystolicArray(rows=rows, columns=columns, double_buffered=False).conv_cycles(conv(*layer)) - 1 == cycles


convs = st.builds(
    lambda c_in, c_out, kernel, output, groups: conv(c_in * groups, c_out * groups, kernel, output, groups),
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from((1, 3, 5, 7)),
    st.integers(1, 56),
    st.sampled_from((1, 1, 2, 3, 16, 100)),
)
chips = st.one_of(
    st.builds(SystolicArray, rows=st.integers(1, 256), columns=st.integers(1, 256), double_buffered=st.booleans()),
    st.builds(VectorDsp, lanes=st.integers(1, 512)),
)


@settings(max_examples=200, deadline=None)
@given(convs, chips)
def test_no_chip_does_more_than_it_can(layer, chip):
    cycles = chip.conv_cycles(layer)
    assert cycles * chip.macs_per_cycle >= layer.macs
    steps = simulate([layer], chip)
    assert 0 < utilisation(steps, chip) <= 1
    assert steps[0].cycles == max(cycles, steps[0].memory)


@settings(max_examples=200, deadline=None)
@given(convs, chips)
def test_more_channels_never_take_less_time(layer, chip):
    c_in, c_out, groups, (kernel, _), (output, _) = (
        layer.c_in, layer.c_out, layer.groups, layer.kernel, layer.output,
    )  # fmt: skip
    for wider in (
        conv(c_in + groups, c_out, kernel, output, groups),
        conv(c_in, c_out + groups, kernel, output, groups),
    ):
        assert chip.conv_cycles(wider) >= chip.conv_cycles(layer)


@settings(max_examples=100, deadline=None)
@given(convs, st.integers(1, 256), st.integers(1, 256))
def test_double_buffering_helps_from_the_second_fold_on(layer, rows, columns):
    plain = SystolicArray(rows=rows, columns=columns, double_buffered=False)
    double = SystolicArray(rows=rows, columns=columns)
    assert double.conv_cycles(layer) <= plain.conv_cycles(layer)
    if plain.folds(layer) == 1:
        assert double.conv_cycles(layer) == plain.conv_cycles(layer)


def test_sixty_four_channels_use_the_array_better_than_sixty_five():
    chip = SystolicArray()
    full, over = (utilisation(simulate([conv(c, c, 1, 28)], chip), chip) for c in (64, 65))
    assert full > 2.5 * over  # four folds instead of one


def test_depthwise_groups_lie_on_the_diagonal():
    chip = SystolicArray()
    assert chip.folds(conv(64, 64, 3, 14, groups=64)) == 10  # 7 groups of 9 rows fit in 64
    assert chip.folds(conv(64, 64, 5, 14, groups=64)) == 32  # 2 of 25
    assert chip.folds(conv(64, 64, 7, 14, groups=64)) == 64
    large = conv(448, 448, 3, 56, groups=448)
    assert utilisation(simulate([large], chip), chip) == pytest.approx(63 / 4096, rel=0.01)
    assert utilisation(simulate([conv(128, 128, 3, 14, groups=128)], VectorDsp()), VectorDsp()) == 1


def test_stages_hide_short_work_and_a_global_pooling_ends_one():
    chip = SystolicArray()
    wide = conv(64, 64, 3, 28)
    act = Elementwise(name="a", op="hardswish", elements=64 * 28 * 28)
    pool = Elementwise(name="p", op="global pool", elements=64 * 28 * 28)
    scale = Elementwise(name="m", op="mul", elements=64 * 28 * 28)
    small = Conv(name="fc", c_in=64, c_out=64, output=(1, 1))
    assert [step.bound for step in simulate([wide, act], chip)] == ["array", "hidden"]
    steps = simulate([wide, pool, small, scale], chip)
    assert [step.bound for step in steps] == ["array", "hidden", "array", "vector"]
    assert steps[2].cycles + steps[3].cycles == 28 * 28  # the product cannot hide behind the long convolution
    assert sum(step.cycles for step in simulate([wide, scale], chip)) == chip.conv_cycles(wide)
    on_dsp = simulate([wide, act], VectorDsp())
    assert on_dsp[1].cycles == 3 * 64 * 28 * 28 // 128  # one unit does both


def test_weights_beyond_the_buffer_come_over_the_wire():
    chip = SystolicArray()
    fc = Conv(name="fc", c_in=25088, c_out=4096, output=(1, 1))  # VGG-16's first: 103 MB
    (step,) = simulate([fc], chip)
    assert step.bound == "memory" and milliseconds([step], chip) == pytest.approx(fc.weight_bytes / 0.5e9 * 1e3)
    (step,) = simulate([fc], SystolicArray(buffer_bytes=200_000_000))
    assert step.bound == "array"


@pytest.mark.parametrize(
    "bad",
    [
        lambda: conv(0, 8),
        lambda: conv(8, 9, groups=4),
        lambda: Elementwise(name="x", op="gelu", elements=4),
        lambda: Elementwise(name="x", op="add", elements=0),
    ],
)
def test_bad_layers_are_refused(bad):
    with pytest.raises(BadInput, match="must"):
        bad()
