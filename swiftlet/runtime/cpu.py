"""What this CPU has no instructions for: bfloat16 is then emulated and slower than float32, int8 adds in 16 bits."""

from swiftlet.runtime.machine import machine

BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # x86, x86, ARM
VNNI = {"avx512_vnni", "avx_vnni"}


def no_bfloat16() -> str | None:
    """Why bfloat16 is not used here, or None."""
    known = machine().flags
    if BFLOAT16 & set(known):
        return None
    seen = f"this one lists {' '.join(known)}" if known else "the flags of this one cannot be read"
    return f"a CPU with bfloat16 instructions (avx512_bf16, amx_bf16 or ARM's bf16); {seen}"


def adds_in_16_bits() -> bool:
    """Whether int8 kernels add products in pairs of 16 bits here, and cut off what does not fit: x86 without VNNI.

    Ours always fits (compress/scales.py); files of others may give other scores than elsewhere.
    """
    known = set(machine().flags)
    return "avx2" in known and not VNNI & known
