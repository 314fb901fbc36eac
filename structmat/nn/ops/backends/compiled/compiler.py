"""Compilation of LLVM code to functions in memory; machine code is also cached on disk.

The cache key is a digest of the code, the processor with its features, and the version of LLVM,
so that a cached file cannot be out of date. If it cannot be written, the code is kept in memory.
"""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from threading import RLock
from typing import Any

from llvmlite import binding, ir

_LOCK = RLock()  # LLVM and the loaded code are shared by all threads


@cache
def machine() -> Any:
    """Return LLVM's description of this processor."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=_features(), opt=3, jit=True
    )


@cache
def _features() -> str:
    return binding.get_host_cpu_features().flatten()


@cache
def _engine() -> Any:
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine())


def addresses(module: ir.Module, *names: str) -> tuple[int, ...]:
    """Return the addresses of functions of a module, after compiling it."""
    text = str(module)
    digest = hashlib.sha256(
        "\n".join([text, binding.get_host_cpu_name(), _features(), f"{binding.llvm_version_info}"]).encode()
    ).hexdigest()[:32]
    with _LOCK:
        # Names are global in a process.
        unique = {name: f"structmat_{digest}_{name}" for name in names}
        for name, own in unique.items():
            text = text.replace(f'@"{name}"', f'@"{own}"')
        engine = _engine()
        engine.add_object_file(binding.object_file.ObjectFileRef.from_data(_compiled(text)))
        engine.finalize_object()
        return tuple(engine.get_function_address(own) for own in unique.values())


def _compiled(text: str) -> bytes:
    parsed = binding.parse_assembly(text)
    parsed.verify()
    builder = binding.create_pass_builder(machine(), binding.create_pipeline_tuning_options(3))
    builder.getModulePassManager().run(parsed, builder)
    return bytes(machine().emit_object(parsed))
