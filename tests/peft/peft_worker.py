"""Two processes that train a PEFT model together: see test_distributed.py.

`python -m tests.peft.peft_worker FOLDER ENGINE ...`, the engines being ddp, fsdp, accelerate or
trainer, each with a folder of its own; `tuned` and `trained`, or `with_trainer`, alone are the run
to compare with. The Trainer starts the group itself if it is the first of the engines.
"""

import json
import os
import socket
import sys
from pathlib import Path

import peft
import torch
import transformers
from torch import distributed, multiprocessing, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard

from structmat.peft import StructmatConfig
from tests.adapters import worker


def tuned():
    config = StructmatConfig(
        topology="mixed_radix",
        topology_pattern={"down": "random(block=4, depth=2, rng=0)"},
        target_modules=["up", "down"],
        side="both",
        scale=True,
        modules_to_save=["classifier"],
    )
    return peft.get_peft_model(worker.plain(), config)


def in_torch(engine, model, folder):
    """Train with DDP or FSDP2; the first process saves what is whole there."""
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    if engine == "ddp":
        around = nn.parallel.DistributedDataParallel(model)
    else:
        for block in model.base_model.model.blocks:
            fully_shard(block)
        around = fully_shard(model)
    losses = worker.trained(around, rank=rank, processes=processes)
    whole = None
    if engine == "fsdp":  # every process takes part
        whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    if rank == 0:
        model.save_pretrained(folder / "adapter", state_dict=whole)
    return losses


def in_accelerate(model, folder):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    around = accelerator.prepare(model)
    rank, processes = accelerator.process_index, accelerator.num_processes
    losses = worker.trained(around, rank=rank, processes=processes, backward=accelerator.backward)
    accelerator.unwrap_model(around).save_pretrained(
        folder / "adapter",
        is_main_process=accelerator.is_main_process,
        state_dict=accelerator.get_state_dict(around),
    )
    return losses


class Texts(torch.utils.data.Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, k):
        ids = (7 * k + torch.arange(6)) % 50
        return {"input_ids": ids, "labels": ids}


def with_trainer(folder, processes=1):
    """Train a small Llama with transformers' Trainer; return the losses that it logs.

    A language model divides its loss by the tokens of all processes, as the Trainer wants. One that
    classifies does not, and has its gradient multiplied by the processes, with any PEFT method.
    """
    torch.manual_seed(0)
    settings = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings |= {"num_key_value_heads": 1, "intermediate_size": 24, "vocab_size": 50}
    model = transformers.LlamaForCausalLM._from_config(transformers.LlamaConfig(**settings))
    config = StructmatConfig(
        topology="mixed_radix", task_type="CAUSAL_LM", modules_to_save=["lm_head"]
    )
    arguments = transformers.TrainingArguments(
        str(folder / "trainer"),
        max_steps=worker.STEPS,
        per_device_train_batch_size=worker.BATCH // processes,
        learning_rate=0.3,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        logging_steps=1,
        save_steps=worker.STEPS,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        ddp_backend="gloo" if processes > 1 else None,
        dataloader_pin_memory=False,
        seed=0,
    )
    trainer = transformers.Trainer(
        peft.get_peft_model(model, config), arguments, train_dataset=Texts()
    )
    trainer.train()
    trainer.save_model(str(folder / "adapter"))
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def main(folder, *engines):
    """Start the processes with the environment that torchrun gives them."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    way = "fork" if sys.platform == "linux" else "spawn"  # forks import nothing again
    multiprocessing.start_processes(train, (folder, engines), nprocs=2, start_method=way)


def train(rank, folder, engines):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    for engine in engines:
        (folder / engine).mkdir(exist_ok=True)
        if engine == "trainer":
            losses = with_trainer(folder / engine, processes=2)
        elif engine == "accelerate":
            losses = in_accelerate(tuned(), folder / engine)
        else:
            if not distributed.is_initialized():
                distributed.init_process_group("gloo")
            losses = in_torch(engine, tuned(), folder / engine)
        distributed.barrier()
        said = json.dumps({"losses": losses})
        (folder / engine / f"{distributed.get_rank()}.json").write_text(said, encoding="utf-8")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
