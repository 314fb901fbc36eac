"""The callback by which transformers' Trainer merges rotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from structmat.adapters.remerging.remerge_files import STATE
from structmat.errors import StructmatError, require


def trainer_callback(remerge: Any) -> Any:
    """Return a `TrainerCallback` that calls the methods of a `Remerge`; see `Remerge.callback`.

    Raises
    ------
    MissingExtraError
        Without transformers (extra `finetune`).
    """
    base: Any = require("transformers", "finetune").TrainerCallback

    class RemergeCallback(base):  # type: ignore[misc]
        """The events of a Trainer on which a `Remerge` acts."""

        def on_train_begin(self, args: Any, state: Any, *_: Any, **known: Any) -> None:
            """Load the checkpoint from which training is resumed."""
            remerge.optimizer = known["optimizer"]
            if state.global_step and not remerge.resumed:
                folder = _checkpoint(args, state.global_step)
                if not (folder / STATE).exists():
                    raise StructmatError(
                        f"training resumes, but {folder} has no {STATE}: call remerge.load with the"
                        " checkpoint before Trainer.train"
                    )
                remerge.load(folder)
            remerge.resumed = False  # training may be resumed again, from another checkpoint
            remerge.check_optimizer()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            """Count a step, and merge if it ends a round."""
            remerge.step()

        def on_save(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            """Add the files of `Remerge.save` to a checkpoint."""
            if state.is_world_process_zero:
                remerge.save(_checkpoint(args, state.global_step))

        def on_train_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            """Load the best checkpoint, of which the Trainer itself restores only the tensors."""
            if args.load_best_model_at_end and state.best_model_checkpoint:
                remerge.load(state.best_model_checkpoint)
                remerge.resumed = False

    return RemergeCallback()


def _checkpoint(args: Any, step: int) -> Path:
    return Path(args.output_dir) / f"checkpoint-{step}"
