"""PEFT adapters in a model that is partly offloaded to disk."""

import peft
import pytest
import torch
import transformers

from structmat.nn.orthogonal_layer import PLANS
from structmat.peft import StructmatConfig
from tests.random_modules import randomised

PLACES = {"model": "disk", "lm_head": "cpu"}


def llama():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    ).eval()


# torch warns when transformers fills in meta tensors.
@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")
@pytest.mark.parametrize("options", [{}, {"side": "both", "scale": True, "reduced": True}])
def test_an_adapter_loads_into_a_model_offloaded_to_disk(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)  # PEFT writes new files, by relative names
    llama().save_pretrained("base")
    config = StructmatConfig(topology="monarch", target_modules=["q_proj", "up_proj"], **options)
    model = randomised(peft.get_peft_model(llama(), config), 1).eval()
    model.save_pretrained("adapter")
    tokens = torch.arange(4)[None]
    expected = model(tokens).logits.detach()
    base = transformers.LlamaForCausalLM.from_pretrained(
        "base", device_map=PLACES, offload_folder="first"
    )
    loaded = peft.PeftModel.from_pretrained(
        base,
        "adapter",
        device_map={f"base_model.model.{name}": place for name, place in PLACES.items()},
        offload_folder="second",
    )
    assert any(p.is_meta for n, p in loaded.named_parameters() if "structmat" in n)
    torch.testing.assert_close(loaded(tokens).logits.detach(), expected)
    assert "_update_offload" not in vars(loaded)


@pytest.mark.parametrize("plan", PLANS)
def test_the_plan_is_saved_with_the_configuration(tmp_path, plan):
    config = StructmatConfig(topology="monarch", target_modules=["0"], plan=plan)
    model = peft.get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 4)), config)
    assert model.base_model.model[0].structmat_inputs["default"].plan == plan
    model.save_pretrained(tmp_path)
    assert StructmatConfig.from_pretrained(str(tmp_path)).plan == plan
    with pytest.raises(ValueError, match="plan='fast': no such choice"):
        StructmatConfig(plan="fast")
