"""One of the processes that train a small adapted model together: see test_distributed.py.

`torchrun --nproc-per-node 2 tests/adapters/worker.py FOLDER RUN ...`: a run is an engine and its
options, `ddp,scale,bias`, and has a folder of its own. Without an engine, `adapted` and `trained`
are the run to compare with. Every process sees its part of the same batches.
"""

import json
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from structmat.adapters import (
    Remerge,
    adapt,
    adapters,
    load_adapter,
    merge,
    random_rounds,
    save_adapter,
)
from structmat.adapters.distributed import unwrapped
from structmat.errors import StructmatError

STEPS, BATCH = 5, 8


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(24), nn.Linear(24, 48), nn.Linear(48, 24)

    def forward(self, x):
        return x + self.down(torch.tanh(self.up(self.norm(x))))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.classifier = nn.Linear(24, 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.classifier(x.mean(1))


def plain():
    torch.manual_seed(0)
    return Model()


def adapted(options=()):
    model = adapt(
        plain(),
        "mixed_radix",
        topology_pattern={"down": "random(block=4, depth=2, rng=0)"},
        trainable=["classifier"],
        scale="scale" in options,
        bias="bias" in options,
        reduced="reduced" in options,
        parametrization="exp" if "exp" in options else "cayley",
    )
    # before DDP, because Remerge replaces parameters in its first round
    model.remerge = Remerge(model, random_rounds(4), every=2) if "remerge" in options else None
    return model


def batches():
    draw = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        yield (
            torch.randn(BATCH, 5, 24, generator=draw),
            torch.randint(3, (BATCH,), generator=draw),
        )


def trained(model, *, rank=0, processes=1, backward=torch.Tensor.backward):
    """Return the loss of each global batch; with SGD, because Adam amplifies rounding errors."""
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(weights, lr=0.3, momentum=0.9)
    remerge = getattr(unwrapped(model), "remerge", None)
    losses = []
    for x, y in batches():
        mine, labels = x.chunk(processes)[rank], y.chunk(processes)[rank]
        loss = nn.functional.cross_entropy(model(mine), labels)
        optimiser.zero_grad()
        backward(loss)
        optimiser.step()
        if remerge is not None:
            remerge.optimizer = optimiser
            remerge.step()
        losses.append(loss.detach().clone())
    losses = torch.stack(losses)
    if processes > 1:
        distributed.all_reduce(losses)
    return (losses / processes).tolist()


def sharded(model, options):
    parts = adapters(model).values() if "each" in options else model.blocks
    for part in parts:
        fully_shard(part)
    return fully_shard(model)


def in_fsdp1(model, folder, said):
    """Train and save with FSDP1, whose parameters are gathered for saving."""

    def wraps(module, recurse, nonwrapped_numel):
        return recurse or isinstance(module, Block)

    model = FullyShardedDataParallel(
        model, use_orig_params=True, auto_wrap_policy=wraps, device_id=torch.device("cpu")
    )
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    said["losses"] = trained(model, rank=rank, processes=processes)
    said["refused"] = refusal(save_adapter, model, folder / "parts")
    with FullyShardedDataParallel.summon_full_params(model, writeback=False):
        save_adapter(model, folder / "adapter")


def in_accelerate(model, folder, said):
    """Train and save with accelerate; its launcher has started the processes."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(model)
    said["kind"] = str(accelerator.distributed_type)
    rank, processes = accelerator.process_index, accelerator.num_processes
    said["losses"] = trained(model, rank=rank, processes=processes, backward=accelerator.backward)
    if accelerator.is_main_process:  # as is usual; the other processes need not take part
        save_adapter(accelerator.unwrap_model(model), folder / "adapter")


def in_zero(model, folder, stage, said):
    """Train and save with DeepSpeed; in stage 3 the parameters are gathered for saving."""
    import deepspeed

    rank, processes = distributed.get_rank(), distributed.get_world_size()
    weights = [p for p in model.parameters() if p.requires_grad]
    config = {
        "train_micro_batch_size_per_gpu": BATCH // processes,
        "gradient_clipping": 0.0,  # clipped by default
        # with stage 3, small parameters are split as well
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
        "zero_allow_untested_optimizer": True,
    }
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=torch.optim.SGD(weights, lr=0.3, momentum=0.9), config=config
    )
    losses = []
    for x, y in batches():
        mine, labels = (t.chunk(processes)[rank] for t in (x, y))
        loss = nn.functional.cross_entropy(engine(mine), labels)
        engine.backward(loss)
        engine.step()
        losses.append(loss.detach().clone())
    losses = torch.stack(losses)
    distributed.all_reduce(losses)
    said["losses"] = (losses / processes).tolist()
    said["refused"] = refusal(save_adapter, engine, folder / "parts")
    with deepspeed.zero.GatheredParameters(list(model.parameters()), enabled=stage == 3):
        save_adapter(engine, folder / "adapter")


def refusal(act, *args):
    try:
        act(*args)
    except StructmatError as error:
        return str(error)
    return None


def main(folder, *runs):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    for run in runs:
        engine, *options = run.split(",")
        (folder / run).mkdir(exist_ok=True)
        model, said = adapted(options), {}
        if engine == "accelerate":
            in_accelerate(model, folder / run, said)
        elif engine == "fsdp1":
            in_fsdp1(model, folder / run, said)
        elif engine == "zero":
            in_zero(model, folder / run, int(options[0]), said)
        else:
            in_torch(engine, model, folder / run, options, said)
        distributed.barrier()
        (folder / run / f"{rank}.json").write_text(json.dumps(said), encoding="utf-8")
    distributed.destroy_process_group()


def in_torch(engine, model, folder, options, said):
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    if engine == "ddp":
        model = nn.parallel.DistributedDataParallel(
            model, find_unused_parameters="unused" in options
        )
    else:
        model = sharded(model, options)
    said["losses"] = trained(model, rank=rank, processes=processes)
    saved = save_adapter(model, folder / "adapter")
    said["there"] = sorted(path.name for path in saved.iterdir()) if engine == "fsdp" else None
    if engine == "fsdp":
        said["parts"] = sum(p.to_local().numel() for p in model.parameters())
        said["merge"] = refusal(merge, model)
        said["adapt"] = refusal(adapt, sharded(plain(), ()), "mixed_radix")
        said["load"] = refusal(load_adapter, sharded(plain(), ()), saved)
        # an adapter loaded before sharding has the trained state
        again = sharded(load_adapter(plain(), saved), ())
        x = next(batches())[0]
        with torch.no_grad():
            said["again"] = float((again(x) - model(x)).abs().max())
        broken = next(p for p in again.parameters() if p.requires_grad)
        if rank == processes - 1:  # only this process can see it before gathering
            broken.detach().to_local().fill_(float("nan"))
        said["broken"] = refusal(save_adapter, again, folder / "broken")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
