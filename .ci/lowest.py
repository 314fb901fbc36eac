"""Print a pip constraint for each range of pyproject.toml: its lowest version, for `.ci/release`.

The core and its extra `all`, but for `gpu`: it is tried on a CPU.
"""

import re
import tomllib
from pathlib import Path

EXTRAS = ("plot", "adapters", "peft", "testing", "finetune", "completion")

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
ranges = [*project["dependencies"]]
for extra in EXTRAS:
    ranges += project["optional-dependencies"][extra]
print(f"# extras: {','.join(EXTRAS)}")
for text in ranges:
    if found := re.fullmatch(r"([\w-]+)[>=]=([\d.]+)", text):
        print(f"{found[1]}=={found[2]}")
    elif not text.startswith("structmat["):
        raise SystemExit(f"{text}: write name>=version, so that its lowest version can be tried")
