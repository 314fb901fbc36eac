"""Training with PEFT in two CPU processes has the losses and files of training in one."""

import json

import pytest
import torch

peft = pytest.importorskip("peft")
pytest.importorskip("transformers")

from tests.adapters import worker  # noqa: E402 (they need both)
from tests.adapters.test_distributed import CLOSE, launched, said_in  # noqa: E402
from tests.peft import peft_worker  # noqa: E402 (they need both)

SETTINGS, TENSORS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of the runs, which share two processes: starting them is slow.

    They are forks of one that has imported transformers; tests/adapters uses accelerate.
    """
    folder, engines = tmp_path_factory.mktemp("runs"), ["trainer", "fsdp", "accelerate"]
    return launched([peft_worker.__name__], folder, engines)


def check_files(folder):
    """Compare the saved adapters, both as files and as PEFT loads them."""
    theirs, ours = (peft.utils.load_peft_weights(folder / n, "cpu") for n in ("adapter", "one"))
    assert theirs.keys() == ours.keys()
    assert any(value.count_nonzero() for name, value in ours.items() if "generators" in name)
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, **CLOSE, msg=name)
    settings = [json.loads((folder / n / SETTINGS).read_text("utf-8")) for n in ("adapter", "one")]
    for each in settings:  # sets, which have no order
        for name in ("target_modules", "modules_to_save"):
            each[name] = sorted(each[name])
    assert settings[0] == settings[1]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["fsdp", "accelerate"])
def test_training_in_two_processes_equals_training_in_one(runs, engine):
    folder = runs / engine
    found = said_in(folder)
    one = peft_worker.tuned()
    expected = torch.tensor(worker.trained(one))
    for said in found:
        torch.testing.assert_close(torch.tensor(said["losses"]), expected, **CLOSE)
    assert len(set(found[0]["losses"])) == worker.STEPS  # something was trained
    one.save_pretrained(folder / "one")
    check_files(folder)
    loaded = peft.PeftModel.from_pretrained(worker.plain(), folder / "adapter").eval()
    x = next(worker.batches())[0]
    torch.testing.assert_close(loaded(x), one.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_the_trainer_in_two_processes_equals_training_in_one(runs):
    folder = runs / "trainer"
    found = said_in(folder)
    (folder / "alone").mkdir()
    expected = peft_worker.with_trainer(folder / "alone")
    (folder / "alone" / "adapter").rename(folder / "one")
    assert len(set(expected)) == worker.STEPS
    torch.testing.assert_close(  # the first process logs
        torch.tensor(found[0]["losses"]), torch.tensor(expected), rtol=1e-4, atol=1e-4
    )
    check_files(folder)
    checkpoint = folder / "trainer" / f"checkpoint-{worker.STEPS}"
    assert (checkpoint / TENSORS).is_file()
    saved, last = (peft.utils.load_peft_weights(f, "cpu") for f in (checkpoint, folder / "adapter"))
    for name, value in last.items():
        assert torch.equal(saved[name], value), name
