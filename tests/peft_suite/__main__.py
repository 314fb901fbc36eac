"""Run PEFT's own tests with our method and with PEFT's OFT; see tests/README.md.

The tests are taken from the sdist of the installed PEFT version, on the package index.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from . import comparing

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "peft-suite"
# Those that are about methods in general, about OFT, or about LoRA where OFT could stand.
FILES = (
    "test_config",
    "test_custom_models",
    "test_decoder_models",
    "test_encoder_decoder_models",
    "test_feature_extraction_models",
    "test_helpers",
    "test_initialization",
    "test_low_level_api",
    "test_mixed",
    "test_other",
    "test_quantization",
    "test_seq_classifier",
    "test_stablediffusion",
    "test_target_parameters",
    "test_token_classification_qa",
    "test_trainable_tokens",
    "test_tuners_utils",
    "test_vision_models",
)
SETTINGS = """[pytest]
markers =
    single_gpu_tests
    multi_gpu_tests
    regression
    bitsandbytes
filterwarnings =
    ignore
"""


def unpacked(version: str) -> Path:
    """Return the directory of PEFT's sdist, which is taken from the index once."""
    folder = BUILD / f"peft-{version}"
    if (folder / "tests" / "__init__.py").exists():
        return folder
    BUILD.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "peft"]
    subprocess.run([*command, "-d", str(BUILD), f"peft=={version}"], check=True)
    with tarfile.open(BUILD / f"peft-{version}.tar.gz") as archive:
        archive.extractall(BUILD, filter="data")
    # They import each other as a package, and the sdist leaves this file out.
    (folder / "tests" / "__init__.py").touch()
    return folder


def run(method: str, folder: Path, hub: Path, asked: argparse.Namespace) -> dict[str, object]:
    """Run the tests with a method, and return their results by name."""
    results = BUILD / f"{method}.json"
    results.unlink(missing_ok=True)
    settings = BUILD / "pytest.ini"
    settings.write_text(SETTINGS, "utf-8")
    path = [str(HERE.parent), str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = os.environ | {
        "PEFT_SUITE_METHOD": method,
        "PEFT_SUITE_RESULTS": str(results),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "HF_HUB_CACHE": str(hub),
        "HF_HUB_OFFLINE": "1",
        "HF_ENDPOINT": "http://127.0.0.1:9",  # where a test goes online all the same: nobody
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
        "STRUCTMAT_CACHE": str(BUILD / "cache"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(settings), "--tb=line", "-rN"]
    command += ["--rootdir", str(folder), "--confcutdir", str(folder), "-p", "no:cacheprovider"]
    command += ["-p", "peft_suite.plugin"]
    command += ["-n", str(asked.workers)] if asked.workers > 1 else ["-p", "no:xdist"]
    command += ["-k", asked.keyword] if asked.keyword else []
    command += [f"tests/{name}.py" for name in asked.files]
    with (BUILD / f"{method}.log").open("w") as log:
        subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=False)
    if not results.exists():
        raise SystemExit(f"pytest did not finish; see {BUILD / method}.log")
    found = json.loads(results.read_text("utf-8"))
    return {name: comparing.Result(**result) for name, result in found.items()}


def made_hub() -> Path:
    """Return the cache with the tiny models, which are made once for each way to make them."""
    versions = "-".join(importlib.metadata.version(name) for name in ("torch", "transformers"))
    stamp = versions + (HERE / "hub.py").read_text("utf-8")
    cache = BUILD / "hub"
    mark = cache / "made"
    if not (mark.exists() and mark.read_text("utf-8") == stamp):
        shutil.rmtree(cache, ignore_errors=True)
        from . import hub

        hub.fill(cache)
        mark.write_text(stamp, "utf-8")
    return cache


def main() -> int:
    """Run both methods and print how they compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=FILES, help="such as test_config; default all")
    parser.add_argument("-k", dest="keyword", default="", help="as for pytest")
    parser.add_argument("-n", dest="workers", type=int, default=1, help="processes")
    asked = parser.parse_args()
    version = importlib.metadata.version("peft")
    folder, hub = unpacked(version), made_hub()
    results = {}
    for method in ("oft", "structmat"):
        start = time.monotonic()
        results[method] = run(method, folder, hub, asked)
        print(f"{method}: {len(results[method])} tests in {time.monotonic() - start:.0f} s")
    differences = comparing.listed()
    if asked.keyword or len(asked.files) < len(FILES):
        # Of a part of the tests, only what occurs there can be said to be there in vain.
        differences = [d for d in differences if any(map(d.fits, results["structmat"]))]
    compared = comparing.compare(results["oft"], results["structmat"], differences)
    print(comparing.summary(compared, results["oft"]))
    return 0 if compared.passed else 1


if __name__ == "__main__":
    sys.exit(main())
