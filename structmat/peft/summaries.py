"""Summaries with both parameter counts, added to PEFT's console output and model cards."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from peft import PeftModel

from structmat._util.text_table import counted
from structmat.peft.config import StructmatConfig
from structmat.peft.parameter_counts import counts

HEADING = "### Rotations (structmat)"


def install() -> None:
    """Extend PEFT's printed summary and model card for structmat adapters.

    PEFT has no hook for this, so two methods of `PeftModel` are wrapped, but never twice. Other
    adapters are not affected.
    """
    if hasattr(PeftModel.print_trainable_parameters, "_structmat"):
        return
    printing, writing = PeftModel.print_trainable_parameters, PeftModel.create_or_update_model_card

    @functools.wraps(printing)
    def print_trainable_parameters(self: PeftModel) -> None:
        printing(self)
        for line in described(self):
            print(line)  # noqa: T201

    @functools.wraps(writing)
    def create_or_update_model_card(self: PeftModel, output_dir: str) -> None:
        writing(self, output_dir)
        lines = described(self)
        if lines:
            _add(Path(output_dir) / "README.md", lines)

    wrapped: Any = print_trainable_parameters
    wrapped._structmat = True
    PeftModel.print_trainable_parameters = wrapped  # type: ignore[method-assign]
    PeftModel.create_or_update_model_card = create_or_update_model_card  # type: ignore[method-assign]


def described(model: Any) -> list[str]:
    """Return a line for each structmat adapter in a PEFT model."""
    lines = []
    for name, config in model.peft_config.items():
        if not isinstance(config, StructmatConfig):
            continue
        found = counts(model, name)
        topology = config.topology if isinstance(config.topology, str) else "one network"
        lines.append(
            f"{name}: {topology} and {config.parametrization} blocks on"
            f" {counted(found.layers, 'layer')} ||"
            f" {found.paper:,d} params as the BOFT paper counts (free angles, scales, biases) ||"
            f" {found.peft:,d} as PEFT's BOFT would store them (full blocks)"
        )
    return lines


def _add(card: Path, lines: list[str]) -> None:
    """Write the section to a model card, replacing an earlier one."""
    text = card.read_text(encoding="utf-8").splitlines()
    if HEADING in text:
        first = text.index(HEADING)
        rest = [k for k in range(first + 1, len(text)) if text[k].startswith("#")]
        del text[first : rest[0] if rest else len(text)]
    section = [HEADING, "", *(f"- {line}" for line in lines), ""]
    at = text.index("### Framework versions") if "### Framework versions" in text else len(text)
    if at and text[at - 1].strip():
        section.insert(0, "")
    card.write_text("\n".join([*text[:at], *section, *text[at:]]) + "\n", encoding="utf-8")
