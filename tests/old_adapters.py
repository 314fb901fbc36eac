"""Files that structmat wrote before there were factors of generators, and their contents.

They were written for `model()` with the topology "butterfly" and exponential blocks. The
generators of bank k are (-1, 0) / 4(k + 1).
"""

import base64
import json

import torch
from torch import nn

_TENSORS = (
    "0AAAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCIwLnN0cnVjdG1hdF9pbnB1dHMuZ2VuZXJh"
    "dG9ycy4wIjp7ImR0eXBlIjoiRjY0Iiwic2hhcGUiOlsyLDFdLCJkYXRhX29mZnNldHMiOlswLDE2XX0sIjAuc3Ry"
    "dWN0bWF0X2lucHV0cy5nZW5lcmF0b3JzLjEiOnsiZHR5cGUiOiJGNjQiLCJzaGFwZSI6WzIsMV0sImRhdGFfb2Zm"
    "c2V0cyI6WzE2LDMyXX19ICAgAAAAAAAA0L8AAAAAAAAAAAAAAAAAAMC/AAAAAAAAAAA="
)
_SETTINGS = (
    '{"format": "structmat.adapter", "version": 1, "tensors": "45b979f0076656e5fd01ba9fa27cfa'
    'bdebecb1ac0af467c47c289f8c26ac9cbb", "layers": {"0": {"layout": "LinearLayout", "weight"'
    ': [2, 4], "networks": {"inputs": 0}, "parametrization": "exp", "scale": false, "bias": f'
    'alse, "dropout": [0.0, 0.0], "reduced": false, "field": "receptive", "base": false}}, "t'
    'rained": [], "statistics": [], "networks": [{"format": "structmat.network", "version": 1'
    ', "width": 4, "stages": [[[[[0, 1], [2, 3]]]], [[[[0, 2], [1, 3]]]]]}]}'
)
_PEFT_TENSORS = (
    "8AAAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCJiYXNlX21vZGVsLm1vZGVsLjAuc3RydWN0"
    "bWF0X2lucHV0cy5nZW5lcmF0b3JzLjAiOnsiZHR5cGUiOiJGNjQiLCJzaGFwZSI6WzIsMV0sImRhdGFfb2Zmc2V0"
    "cyI6WzAsMTZdfSwiYmFzZV9tb2RlbC5tb2RlbC4wLnN0cnVjdG1hdF9pbnB1dHMuZ2VuZXJhdG9ycy4xIjp7ImR0"
    "eXBlIjoiRjY0Iiwic2hhcGUiOlsyLDFdLCJkYXRhX29mZnNldHMiOlsxNiwzMl19fSAAAAAAAADQvwAAAAAAAAAA"
    "AAAAAAAAwL8AAAAAAAAAAA=="
)
_PEFT_SETTINGS = (
    '{"auto_mapping": {"base_model_class": "Sequential", "parent_library": "torch.nn.modules.'
    'container"}, "base_model_name_or_path": null, "bias": "none", "dropout": [0.0, 0.0], "ex'
    'clude_modules": null, "field": "receptive", "inference_mode": true, "init_weights": true'
    ', "layers_pattern": null, "layers_to_transform": null, "modules_to_save": null, "network'
    's": {"butterfly at 4": "ef0f7e567fd789dd"}, "parametrization": "exp", "peft_type": "STRU'
    'CTMAT", "peft_version": "0.21.2", "plan": "auto", "reduced": false, "revision": null, "s'
    'cale": false, "schema": 1, "side": "inputs", "target_modules": ["0"], "target_parameters'
    '": null, "task_type": null, "topology": "butterfly", "topology_pattern": []}'
)
WEIGHT = [
    [1.0782757068864137, -1.6904208841667665, 3.1590819448554117, -4.0],
    [0.4241527088950236, 1.5770706121932285, -2.4663622531358786, 3.5],
]
AFTER = [
    [-0.09975377176334088, 0.1502034671839733],
    [-0.275226915675476, -0.13905419753714549],
]  # the generators after `steps`


def model():
    """Return the pretrained model."""
    made = nn.Sequential(nn.Linear(4, 2, bias=False, dtype=torch.float64))
    with torch.no_grad():
        made[0].weight.copy_(torch.tensor([[1.0, -2.0, 3.0, -4.0], [0.5, 1.5, -2.5, 3.5]]))
    return made


def write(folder):
    """Write files as `save_adapter` wrote them."""
    folder.mkdir()
    (folder / "adapter.safetensors").write_bytes(base64.b64decode(_TENSORS))
    (folder / "adapter.json").write_text(_SETTINGS)
    return folder


def write_peft(folder, **changes):
    """Write files as PEFT saved them, with changes of the configuration."""
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(base64.b64decode(_PEFT_TENSORS))
    (folder / "adapter_config.json").write_text(json.dumps(json.loads(_PEFT_SETTINGS) | changes))
    return folder


def optimiser(net):
    """Return the optimiser of `steps`."""
    return torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.05)


def steps(net, optimiser, count=3):
    """Train an adapted model, and return its trained parameters."""
    x = torch.tensor([[1.0, 0.0, 2.0, -1.0], [0.0, 1.0, -1.0, 1.0]], dtype=torch.float64)
    for _ in range(count):
        optimiser.zero_grad()
        net(x).pow(2).sum().backward()
        optimiser.step()
    return [p.detach().flatten().tolist() for p in net.parameters() if p.requires_grad]
