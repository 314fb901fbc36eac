import json
import logging
import shutil
import warnings

import pytest

from structmat.cli import main
from structmat.errors import FileError, require
from structmat.finetune.models import PACKAGED, block_linears, pretrained, quiet, widths


def test_the_packaged_model_has_36_target_layers_and_a_new_head():
    source = pretrained()
    classifier = source.classifier(["a", "b", "c"])
    assert (source.name, source.local) == (PACKAGED, True)
    assert len(classifier.targets) == 36
    assert classifier.head == ("classifier",)
    assert widths(classifier) == [384, 1536]
    assert classifier.model.config.id2label == {0: "a", 1: "b", 2: "c"}


def test_the_head_is_drawn_from_the_seed(tiny_model):
    source = pretrained(str(tiny_model))
    first, again, other = (
        source.classifier("ab", seed=seed).model.classifier.weight for seed in (0, 0, 1)
    )
    assert first.equal(again)
    assert not first.equal(other)


def test_models_without_padding_and_with_conv1d_layers_are_supported(tmp_path, tiny_model):
    transformers = require("transformers", "finetune")
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=30522)
    transformers.GPT2Model(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings |= {"pad_token": None, "eos_token": "[SEP]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    source = pretrained(str(tmp_path))
    classifier = source.classifier(["a", "b"])
    assert source.tokenizer().pad_token == "[SEP]"
    assert classifier.model.config.pad_token_id == source.tokenizer().pad_token_id
    assert classifier.head == ("score",)
    assert len(classifier.targets) == 2 * 4
    assert widths(classifier) == [32, 128]


def test_poolers_are_not_target_layers():
    nn = require("torch", "finetune").nn
    blocks = nn.ModuleList([nn.Linear(2, 2)])
    model = nn.ModuleDict({"blocks": blocks, "pooler": nn.Linear(2, 2)})
    assert block_linears(model) == ("blocks.0",)


def test_a_path_without_a_model_is_rejected(tmp_path):
    with pytest.raises(FileError, match=r"contains no config\.json; give the directory"):
        pretrained(str(tmp_path))
    with pytest.raises(FileError, match="no such directory"):
        pretrained(str(tmp_path / "none"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FileError, match="not a model that transformers can load"):
        pretrained(str(tmp_path)).classifier(["a", "b"])
    with pytest.raises(FileError, match="not a model that transformers can load"):
        pretrained(str(tmp_path)).check()


@pytest.mark.parametrize("command", ["bench", "finetune"])
def test_an_unknown_model_name_is_rejected_before_any_work(capsys, monkeypatch, command):
    def read():
        raise AssertionError("the docstrings are read")

    monkeypatch.setattr("structmat.finetune.docstring_task.docstring_task", read)
    assert main([command, "--model", "no-such-model"]) == 2
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert (out, first) == ("", "looking for no-such-model on the Hub")
    assert second.startswith(f"structmat {command}: no-such-model is neither a local directory")
    assert "a directory as ./name, or a name on the Hub. With HF_HUB_OFFLINE=1, only" in second


def test_checking_a_directory_prints_nothing(tiny_model):
    said = []
    pretrained(str(tiny_model)).check(said.append)
    assert said == []


def test_hub_names_are_resolved_lazily():
    source = pretrained("someone/some-model")
    assert (source.place, source.local) == ("someone/some-model", False)


def test_parameters_missing_from_the_file_are_trained(tmp_path, tiny_model):
    shutil.copytree(tiny_model, tmp_path, dirs_exist_ok=True)
    transformers = require("transformers", "finetune")
    model = transformers.BertModel.from_pretrained(tmp_path, add_pooling_layer=False)
    model.save_pretrained(tmp_path)
    classifier = pretrained(str(tmp_path)).classifier(["a", "b"])
    assert classifier.head == ("bert.pooler.dense", "classifier")


def test_quiet_suppresses_warnings_but_not_errors(caplog):
    logger = logging.getLogger("some.library")
    before = logging.root.manager.disable

    @quiet()
    def interrupted():
        logger.warning("a part is missing")
        logger.error("broken")
        warnings.warn("IProgress not found. Please update jupyter", stacklevel=1)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert logging.root.manager.disable == before
    logger.warning("repeated")
    assert [record.message for record in caplog.records] == ["broken", "repeated"]
    with pytest.warns(UserWarning, match="IProgress"):
        warnings.warn("IProgress not found", stacklevel=1)


def test_quiet_respects_a_higher_disabled_level(caplog):
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with quiet():
            logging.getLogger("some.library").error("broken")
        assert logging.root.manager.disable == logging.ERROR
    finally:
        logging.disable(before)
    assert not caplog.records
