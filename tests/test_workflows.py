"""GitHub workflows and pre-commit hooks run the same tools and versions as make."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path):
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_make_with_minimal_permissions(path):
    flow = read(path)
    assert flow["permissions"] == {"contents": "read"}
    commands = [s["run"] for job in flow["jobs"].values() for s in job["steps"] if "run" in s]
    targets = re.findall(r"^make ([\w-]+)", "\n".join(commands), re.M)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, re.M), target


def test_every_listed_python_version_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    tried = read(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    named = re.findall(r":: (3\.\d+)$", "\n".join(project["classifiers"]), re.M)
    assert named
    assert set(named) <= set(tried)
    assert f">={tried[0]}" == project["requires-python"]


def test_a_release_is_tested_before_upload_and_its_tag_is_the_version():
    jobs = read(".github/workflows/release.yml")["jobs"]
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}  # no token is kept
    check = next(s["run"] for s in jobs["build"]["steps"] if "GITHUB_REF_NAME" in s.get("run", ""))
    wanted = re.search(r'"(__version__ = .*)" structmat', check)[1].replace("\\", "")
    line = re.escape(wanted).replace(re.escape("${GITHUB_REF_NAME#v}"), r"\d+\.\d+\.\d+")
    assert re.search(f"^{line}$", (ROOT / "structmat" / "__init__.py").read_text("utf-8"), re.M)


def test_the_pre_commit_ruff_version_is_the_pinned_one():
    hooks = {repo["repo"]: repo["rev"] for repo in read(".pre-commit-config.yaml")["repos"]}
    pinned = re.search(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)[1]
    assert hooks["https://github.com/astral-sh/ruff-pre-commit"] == f"v{pinned}"


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_issue_forms_are_complete(name):
    form = read(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert {"name", "description", "body"} <= set(form)
    assert len({part["id"] for part in form["body"]}) == len(form["body"])
