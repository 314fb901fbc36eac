"""The PEFT method in two processes on the CPU: the losses and the file of one process."""

import json

import pytest
import torch

peft = pytest.importorskip("peft")
pytest.importorskip("transformers")

from tests.adapters import worker  # noqa: E402 (they need both)
from tests.adapters.test_distributed import ACCELERATE, CLOSE, TORCHRUN, launched  # noqa: E402
from tests.peft import peft_worker  # noqa: E402 (they need both)

LAUNCHERS = {"accelerate": ACCELERATE}
SETTINGS, TENSORS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def launched_with(engine, folder):
    start = LAUNCHERS.get(engine, TORCHRUN)
    return launched(folder, [*start, peft_worker.__file__, engine, str(folder)])


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
def test_training_is_that_of_one_process(tmp_path, engine):
    found = launched_with(engine, tmp_path)
    one = peft_worker.tuned()
    expected = torch.tensor(worker.trained(one))
    for said in found:
        torch.testing.assert_close(torch.tensor(said["losses"]), expected, **CLOSE)
    assert len(set(found[0]["losses"])) == worker.STEPS  # something was trained
    one.save_pretrained(tmp_path / "one")
    check_files(tmp_path)
    loaded = peft.PeftModel.from_pretrained(worker.plain(), tmp_path / "adapter").eval()
    x = next(worker.batches())[0]
    torch.testing.assert_close(loaded(x), one.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_the_trainer_under_torchrun_is_that_of_one_process(tmp_path):
    found = launched_with("trainer", tmp_path)
    (tmp_path / "alone").mkdir()
    expected = peft_worker.with_trainer(tmp_path / "alone")
    (tmp_path / "alone" / "adapter").rename(tmp_path / "one")
    assert len(set(expected)) == worker.STEPS
    torch.testing.assert_close(  # the first process logs
        torch.tensor(found[0]["losses"]), torch.tensor(expected), rtol=1e-4, atol=1e-4
    )
    check_files(tmp_path)
    folder = tmp_path / "trainer" / f"checkpoint-{worker.STEPS}"
    assert (folder / TENSORS).is_file()
    saved, last = (peft.utils.load_peft_weights(f, "cpu") for f in (folder, tmp_path / "adapter"))
    for name, value in last.items():
        assert torch.equal(saved[name], value), name
