"""A training is in bfloat16 where it is asked for and the machine has it."""

import types
import warnings

import pytest

from higan.adversarial import precision
from higan.adversarial.precision import EmulatedPrecisionWarning, precision_here
from higan.adversarial.step import load_backend

X86 = "processor : 0\nflags\t\t: fpu sse2 avx2 {}\nbugs : none\n\nprocessor : 1\nflags : fpu\n"


@pytest.mark.parametrize(
    "cpu, native",
    [
        (X86.format(""), False),
        (X86.format("avx512f"), False),
        (X86.format("avx512_bf16"), True),
        (X86.format("amx_tile amx_bf16"), True),
        ("processor : 0\nFeatures : fp asimd bf16 i8mm\n", True),
        ("nothing to tell by", False),
        (None, False),
    ],
)
def test_bfloat16_where_the_cpu_has_it(tmp_path, monkeypatch, cpu, native):
    monkeypatch.setattr(precision, "CPU", tmp_path / "cpuinfo")
    if cpu is not None:
        precision.CPU.write_text(cpu)
    cpus, gpu = (types.SimpleNamespace(accelerated=lambda found=found: found) for found in (False, True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert precision_here("float32", cpus) == "float32"
        assert precision_here("mixed_bfloat16", gpu) == "mixed_bfloat16"
        if native:
            assert precision_here("mixed_bfloat16", cpus) == "mixed_bfloat16"
    if not native:
        with pytest.warns(EmulatedPrecisionWarning, match="no bfloat16 .*: training in float32"):
            assert precision_here("mixed_bfloat16", cpus) == "float32"


def test_there_is_no_accelerator_but_those_that_the_backend_sees():
    import keras

    found = load_backend().accelerated()
    assert found == any(not name.startswith("cpu") for name in keras.distribution.list_devices())
