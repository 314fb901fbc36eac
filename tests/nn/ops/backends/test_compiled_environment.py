"""The environment of the compiled kernels: threads, forked processes, and the cache on disk."""

import importlib.metadata
import inspect
import logging
import os
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
import torch

import structmat as sm
from structmat.linalg.schedule import schedule
from structmat.nn.ops.backends import compiled, tiled
from structmat.nn.ops.backends.compiled import workers
from tests.test_environments import BLOCK, NO_PASSWD, run

pytest.importorskip("llvmlite")
compiler = pytest.importorskip("structmat.nn.ops.backends.compiled.compiler")

CPU = torch.device("cpu")
NET = sm.butterfly(64)
LONGEST = 120  # seconds after which a test considers threads to be deadlocked


@pytest.fixture
def threads(monkeypatch):
    """Provide a function that sets the number of threads, all of which every call then uses."""
    before = torch.get_num_threads()
    monkeypatch.setattr(compiled, "_ALONE", 0)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def prepared(net):
    return compiled.prepared(schedule(net), CPU)


def drawn(net, tokens, dtype=torch.float32, blocks=None):
    source = torch.Generator().manual_seed(0)
    shapes = [(b.count, b.radix, b.radix) for b in net.banks]
    kind = blocks or dtype
    made = [torch.randn(s, generator=source, dtype=kind) / s[-1] for s in shapes]
    return made, torch.randn(tokens, net.width, generator=source, dtype=kind).to(dtype)


def results(steps, blocks, x):
    """Return the values and gradients of R and of its adjoint."""
    made = []
    for adjoint in (False, True):
        y = compiled.apply(steps, blocks, x, adjoint=adjoint)
        grad_x, sums = torch.empty_like(x), tiled.zeros_like(blocks)
        compiled.gradients(steps, blocks, x, y, adjoint=adjoint, grad_x=grad_x, sums=sums)
        made += [y, grad_x, *sums]
    return made


def equal(found, wanted):
    return all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


# Threads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [5, 300, 3000])
@pytest.mark.parametrize(
    ("dtype", "blocks"),
    [(torch.float32, None), (torch.complex128, None), (torch.bfloat16, torch.float32)],
    ids=str,
)
def test_results_do_not_depend_on_the_number_of_threads(tokens, dtype, blocks, threads):
    given = drawn(NET, tokens, dtype, blocks)
    made = []
    for count in (1, 2, 5):
        threads(count)
        made.append(results(prepared(NET), *given))
    assert equal(made[1], made[0])
    assert equal(made[2], made[0])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_job_runs_in_as_many_threads_as_torch_uses(count, threads, monkeypatch):
    threads(count)
    entered = []
    together = threading.Barrier(count, timeout=LONGEST)
    blocks, x = drawn(NET, 300)
    steps = prepared(NET)
    compiled.apply(steps, blocks, x)
    scratch = workers.scratch

    def wait_for_all(size):
        entered.append(threading.get_ident())
        together.wait()
        return scratch(size)

    monkeypatch.setattr(workers, "scratch", wait_for_all)
    compiled.apply(steps, blocks, x)
    assert len(entered) == len(set(entered)) == count


def test_a_small_job_runs_in_one_thread(monkeypatch):
    asked = []
    monkeypatch.setattr(workers, "run", lambda job, threads: asked.append(threads) or job())
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        for tokens in (1, 8, 3000):
            results(prepared(NET), *drawn(NET, tokens))
    finally:
        torch.set_num_threads(before)
    assert asked == [1] * 8 + [5] * 4


@pytest.mark.parametrize("count", [1, 3])
def test_many_python_threads_can_call_kernels_at_once(count, threads):
    threads(count)
    given = [(prepared(n), *drawn(n, t)) for n in (NET, sm.shuffle(48, block=4)) for t in (3, 700)]
    wanted = [results(*each) for each in given]

    def several(k):
        return all(equal(results(*given[j]), wanted[j]) for j in (k % 4, (k + 1) % 4) * 5)

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(several, k) for k in range(16)]
        assert not wait(futures, LONGEST).not_done
        assert all(future.result() for future in futures)


def test_a_function_is_compiled_once_even_if_many_threads_need_it(caplog, threads, monkeypatch):
    monkeypatch.setattr(compiler, "_file", lambda _: None)  # without the cache on disk
    caplog.set_level(logging.INFO, compiler.__name__)
    net = sm.Network.of(11, [[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]])  # a radix of no other test
    blocks, x = drawn(net, 40)
    together = threading.Barrier(4, timeout=LONGEST)

    def first(_):
        steps = prepared(net)
        together.wait()
        return compiled.apply(steps, blocks, x)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(first, range(4)))
    assert equal(made[1:], made[:1] * 3)
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "cells of" in line]) == 1


def test_a_job_does_not_wait_for_workers_that_are_busy_or_do_not_start(threads, monkeypatch):
    threads(3)
    blocks, x = drawn(NET, 300)
    steps = prepared(NET)
    wanted = compiled.apply(steps, blocks, x)
    monkeypatch.setattr(workers, "_pool", workers._Pool())
    entered, release = threading.Semaphore(0), threading.Event()

    def wait_long():
        entered.release()
        release.wait(LONGEST)

    stuck = threading.Thread(target=workers.run, args=(wait_long, 3))
    stuck.start()
    for _ in range(3):
        assert entered.acquire(timeout=LONGEST)
    try:
        assert torch.equal(compiled.apply(steps, blocks, x), wanted)
        kept = weakref.ref(x)
        del x
        assert kept() is None  # although the task is still in the queue
    finally:
        release.set()
        stuck.join()

    def limit(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers, "_pool", workers._Pool())
    monkeypatch.setattr(threading.Thread, "start", limit)
    blocks, x = drawn(NET, 300)
    assert torch.equal(compiled.apply(steps, blocks, x), wanted)


def test_a_late_worker_does_not_run_a_finished_job():
    pool, done, late = workers._Pool(), [], threading.Event()
    task = workers._Task(lambda: done.append(1))
    pool.tasks.put(task)
    task.finish()
    pool.tasks.put(workers._Task(late.set))
    pool.grow(1)
    assert late.wait(LONGEST)
    assert done == []


@pytest.mark.parametrize("caller", [False, True])
def test_an_error_in_a_job_is_raised_and_the_workers_survive(caller):
    main = threading.current_thread()
    together = threading.Barrier(2, timeout=LONGEST)

    def job():
        together.wait()
        if (threading.current_thread() is main) == caller:
            raise MemoryError("in one thread")

    with pytest.raises(MemoryError, match="in one thread"):
        workers.run(job, 2)
    workers.run(together.wait, 2)  # requires both threads


def test_no_tensor_is_kept_alive_after_a_call(threads):
    threads(3)
    steps = prepared(NET)
    blocks, x = drawn(NET, 300)
    made = results(steps, blocks, x)
    kept = [weakref.ref(t) for t in (x, *blocks, *made)]
    del blocks, x, made
    workers.run(lambda: None, 3)
    assert all(ref() is None for ref in kept)


def test_a_worker_keeps_tensors_alive_if_the_calling_thread_is_interrupted(threads, monkeypatch):
    threads(2)
    blocks, x = drawn(NET, 300)
    steps = prepared(NET)
    compiled.apply(steps, blocks, x)
    main, entered, release = threading.current_thread(), threading.Event(), threading.Event()
    copies, alive, ended = [], [], threading.Event()
    rows, scratch = compiled._rows, workers.scratch

    def remembered(x):
        copies.append(weakref.ref(made := rows(x)))
        return made

    def slow(size):
        if threading.current_thread() is main:
            assert entered.wait(LONGEST)
            return scratch(size)
        entered.set()
        release.wait(LONGEST)
        alive.append(copies[0]() is not None)
        ended.set()
        return scratch(size)

    def interrupt(_):
        raise KeyboardInterrupt("while waiting for a worker")

    with monkeypatch.context() as patch:
        patch.setattr(compiled, "_rows", remembered)
        patch.setattr(workers, "scratch", slow)
        patch.setattr(workers._Task, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt, match="while waiting"):
            compiled.apply(steps, blocks, x.T.contiguous().T)
        release.set()
        assert ended.wait(LONGEST)
    assert alive == [True]


def test_concurrent_requests_for_zeros_return_enough_memory(monkeypatch):
    class Shared(list):
        def append(self, array):
            super().append(array)
            super().append(np.zeros(8, dtype=np.uint8))  # as if by another thread

    shared = Shared()
    list.append(shared, np.zeros(8, dtype=np.uint8))
    monkeypatch.setattr(workers, "_zeros", shared)
    address = workers.zeros(1000)
    (found,) = (a for a in shared if a.ctypes.data == address)
    assert len(found) >= 1000
    assert not found.any()


def test_scratch_memory_is_aligned_and_belongs_to_its_thread():
    with ThreadPoolExecutor(2) as pool:
        together = threading.Barrier(2, timeout=LONGEST)

        def addresses(_):
            made = [workers.scratch(size) for size in (10, 1000, 100_000)]
            together.wait()
            return [workers.aligned(memory) for memory in made]

        one, other = pool.map(addresses, range(2))
    assert all(a % 64 == 0 for a in one + other)
    assert abs(one[-1] - other[-1]) >= 100_000


# Forked processes --------------------------------------------------------------------------------

CALL = """
import os, signal, sys, threading, warnings
import structmat as sm, torch
from structmat.linalg.schedule import schedule
from structmat.nn.ops.backends import compiled
warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)  # about forking with threads
torch.set_num_threads(1)  # torch's own threads do not exist in a forked process
compiled._threads = lambda *_: 1
def result(radix, tokens=100):
    net = sm.block_diagonal(4 * radix, radix)
    source = torch.Generator().manual_seed(radix)
    blocks = [torch.randn(4, radix, radix, generator=source)]
    x = torch.randn(tokens, net.width, generator=source)
    steps = compiled.prepared(schedule(net), torch.device("cpu"))
    y = compiled.apply(steps, blocks, x)
    wanted = torch.einsum("nij,tnj->tni", blocks[0], x.view(tokens, 4, radix)).flatten(1)
    assert (y - wanted).abs().max() < 1e-4
    return y
def in_child(work):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a process that has deadlocked
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
"""
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@pytest.mark.slow
@forks
def test_a_process_can_be_forked_while_another_thread_computes(tmp_path):
    program = """
def busy():
    while not stop.is_set():
        result(3, 5000)
for threads in (1, 2):
    compiled._threads = lambda *_: threads
    stop = threading.Event()
    thread = threading.Thread(target=busy)
    result(3)
    thread.start()
    for radix in (3, 3, 3 + threads):
        in_child(lambda: [result(radix), result(radix, 3000)])
    stop.set()
    thread.join()
    in_child(lambda: result(5 + threads))
"""
    source = CALL + program
    env = {"STRUCTMAT_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run(source, env=env, timeout=LONGEST)


@pytest.mark.slow
@forks
def test_a_process_can_be_forked_while_another_thread_compiles():
    """The same holds for imports of llvmlite: locks held by that thread would never be released."""
    program = """
compiled.prepared(schedule(sm.butterfly(4)), torch.device("cpu"))  # imports scipy's modules
torch.einsum("nij,tnj->tni", torch.ones(2, 2, 2), torch.ones(2, 2, 2))
compiling = threading.Event()
def busy():
    for radix in range(12, 17):
        compiling.set()
        result(radix)
        result(radix, 3)
thread = threading.Thread(target=busy)
thread.start()
compiling.wait()
radix = 2
while thread.is_alive():
    in_child(lambda: result(radix))
    radix += 1
thread.join()
assert radix > 3
"""
    source = CALL + program
    env = {"STRUCTMAT_CACHE": os.devnull + "/none", "OMP_NUM_THREADS": "1"}
    run(source, env=env, timeout=LONGEST)


# The cache on disk -------------------------------------------------------------------------------

LAYER = """
import logging, sys
import structmat as sm, torch
import structmat.nn
from structmat.nn.ops.backends import compiled
lines = []
class Count(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
log = logging.getLogger("structmat")
log.setLevel(logging.INFO)
log.addHandler(Count())
torch.manual_seed(0)
q = structmat.nn.Orthogonal(sm.block_diagonal(8, 2))
for g in q.generators:
    torch.nn.init.normal_(g)
q.explain(10)
assert "llvmlite" not in sys.modules and not lines
x = torch.randn(20, 8, requires_grad=True)
y = q(x)
y.sin().sum().backward()
made = [y.detach(), x.grad, *(g.grad for g in q.generators)]
assert compiled.available(x.device) == ("llvmlite" in sys.modules)
print(sum(line.startswith("compiled ") for line in lines))
print(*[float(t.double().abs().sum()) for t in made])
"""


def used(env, program=LAYER):
    """Run a program; return the number of compiled functions, and sums of values and gradients."""
    count, *sums = run(program, env=env, timeout=LONGEST).decode().split()
    return int(count), list(map(float, sums))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The cache folder of a process that had to compile everything, and its results."""
    folder = tmp_path_factory.mktemp("cache")
    return folder, *used({"STRUCTMAT_CACHE": str(folder)})


@pytest.mark.slow
def test_machine_code_is_cached_for_later_processes_and_replaced_if_damaged(tmp_path, first):
    folder, count, sums = first
    shutil.copytree(folder / "kernels", tmp_path / "kernels")
    files = sorted((tmp_path / "kernels").iterdir())
    assert count == len(files) >= 4
    assert all(file.suffix == ".o" for file in files)
    before = [file.read_bytes() for file in files]
    files[0].write_bytes(b"")
    files[1].write_bytes(before[1][: len(before[1]) // 2])
    files[2].write_bytes(before[2][:100] + b"damaged" + before[2][107:])
    assert used({"STRUCTMAT_CACHE": str(tmp_path)}) == (3, sums)  # none of the others
    assert sorted((tmp_path / "kernels").iterdir()) == files
    assert [file.read_bytes() for file in files] == before


@pytest.mark.slow
def test_machine_code_is_kept_in_memory_without_a_home_directory(first):
    pytest.importorskip("pwd")
    _, count, sums = first
    assert used({}, NO_PASSWD + LAYER) == (count, sums)


def test_an_unusable_cache_folder_is_not_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("STRUCTMAT_CACHE", str(tmp_path))
    (tmp_path / "kernels").write_text("")
    compiler._keep("0" * 64, b"code")
    assert compiler._read("0" * 64) is None
    (tmp_path / "kernels").unlink()
    compiler._keep("0" * 64, b"code")
    assert compiler._read("0" * 64) == b"code"


def test_the_layer_works_without_llvmlite(tmp_path):
    """Compare one example with the reference; other tests compare more."""
    program = BLOCK.format(names={"llvmlite"}) + LAYER
    program += """
x.grad = q.generators[0].grad = None
q.plan = "reference"
z = q(x)
z.sin().sum().backward()
for one, other in zip(made, [z.detach(), x.grad, q.generators[0].grad], strict=True):
    torch.testing.assert_close(one, other)
"""
    count, _ = used({"STRUCTMAT_CACHE": str(tmp_path)}, program)
    assert count == 0


@pytest.mark.parametrize("version", ["0.45.1", "0.9", "none"])
def test_older_versions_of_llvmlite_are_not_used(version, monkeypatch):
    available = compiled.available.__wrapped__
    assert available(CPU)

    def other(name):
        if version == "none":
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", other)
    assert not available(CPU)


@pytest.mark.parametrize("writable", [True, False])
def test_each_compilation_is_logged_and_cached(tmp_path, monkeypatch, caplog, writable):
    """Machine code that cannot be written is kept in memory."""
    cache = tmp_path / "cache"
    if not writable:
        cache.write_text("a file")
    monkeypatch.setenv("STRUCTMAT_CACHE", str(cache))
    caplog.set_level(logging.INFO, compiler.__name__)
    radix = 13 if writable else 14  # of no other test
    net = sm.Network.of(radix, [[list(range(radix))]])
    blocks, x = drawn(net, 40)
    compiled.apply(prepared(net), blocks, x)
    lines = [record.getMessage() for record in caplog.records]
    assert 1 <= len(lines) <= 2  # the cell, and perhaps the driver
    assert all(line.startswith("compiled ") and line.endswith(" s") for line in lines)
    if writable:
        assert len(list((cache / "kernels").iterdir())) == len(lines)
    compiled.apply(prepared(net), blocks, x[:30])
    assert len(caplog.records) == len(lines)


def test_the_cache_key_depends_on_the_code_generator_the_processor_and_the_versions(monkeypatch):
    version = compiler._version.__wrapped__
    before = version()
    assert version() == before
    getsource = inspect.getsource
    for module in ("writer", "cell_code", "driver_code", "compiler"):
        with monkeypatch.context() as other:
            other.setattr(
                inspect,
                "getsource",
                lambda m, name=module: getsource(m) + "#" * m.__name__.endswith("." + name),
            )
            assert version() != before
    for name in ("processor", "features"):
        with monkeypatch.context() as other:
            other.setattr(compiler, name, lambda: "another")
            assert version() != before
    with monkeypatch.context() as other:
        other.setattr(compiler.llvmlite, "__version__", "1.0")
        assert version() != before


def test_without_source_files_the_cache_key_depends_on_the_release(monkeypatch):
    def none(_):
        raise OSError("could not get source code")

    monkeypatch.setattr(inspect, "getsource", none)
    before = compiler._version.__wrapped__()
    monkeypatch.setattr(compiler, "__version__", "another")
    assert compiler._version.__wrapped__() != before
