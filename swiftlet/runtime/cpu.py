"""Whether this CPU multiplies bfloat16 in hardware: without it, bfloat16 is emulated and slower than float32."""

from swiftlet.runtime.machine import machine

BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # x86, x86, ARM


def no_bfloat16() -> str | None:
    """Why bfloat16 is not used here, or None."""
    known = machine().flags
    if BFLOAT16 & set(known):
        return None
    seen = f"this one lists {' '.join(known)}" if known else "the flags of this one cannot be read"
    return f"a CPU with bfloat16 instructions (avx512_bf16, amx_bf16 or ARM's bf16); {seen}"
