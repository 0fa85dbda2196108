"""What users install: the wheel, built from the checkout without a network.

What belongs here: the wheel's content, its installation, its reproducibility. What does not: what the scripts do.
Invariant: nothing here writes into the checkout or into the environment that runs the tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "lua", "deploy", "lukhas_redis")


def build(checkout: Path, into: Path) -> Path:
    """The wheel that hatchling makes of `checkout`, put into the folder `into`."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(into)]
    subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.PIPE)
    (wheel,) = into.glob("*.whl")
    return wheel


def tracked(folder: str) -> set[str]:
    """Files of `folder` that are, or with the next commit will be, in git; without git, those on disk."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0 and listing.stdout:
        return {name for name in listing.stdout.split("\0") if name and (ROOT / name).exists()}
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout."""
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("folder", ["lua", "deploy"])
def test_wheel_has_the_folders_that_git_tracks(folder: str, names: set[str]) -> None:
    """The wheel's `_lua` is `lua/`, its `_deploy` is `deploy/`: no file is missing and no stray one is published."""
    inside = f"lukhas_redis/_{folder}/"
    shipped = {name.removeprefix("lukhas_redis/_") for name in names if name.startswith(inside)}
    assert shipped == tracked(folder), f"see tool.hatch.build.targets.wheel.force-include for {folder}"
    assert folder != "lua" or "lua/preserve.lua" in shipped


def test_wheel_has_the_modules_that_git_tracks(names: set[str]) -> None:
    """The wheel's modules and data files are exactly those of the package folder."""
    copied = ("lukhas_redis/_lua/", "lukhas_redis/_deploy/")
    shipped = {name for name in names if name.startswith("lukhas_redis/") and not name.startswith(copied)}
    assert shipped == tracked("lukhas_redis")


def test_wheel_is_typed_licensed_and_has_its_command(wheel: Path, names: set[str]) -> None:
    """Type checkers read the package's types, the licence travels with it, and `lukhas` is its command."""
    assert "lukhas_redis/py.typed" in names
    meta = f"{wheel.name.rsplit('-', 3)[0]}.dist-info"
    assert f"{meta}/licenses/LICENSE" in names
    with zipfile.ZipFile(wheel) as archive:
        assert "lukhas = lukhas_redis.cli:main" in archive.read(f"{meta}/entry_points.txt").decode().splitlines()


LOAD_ALL = """
import json
from lukhas_redis import scripts
print(json.dumps({"from": scripts.__file__, "shas": {name: scripts.load(name).sha for name in scripts.script_names()}}))
"""


def loaded_with(path: Path, cwd: Path) -> tuple[Path, dict[str, str]]:
    """Where a new interpreter with `path` first finds the package, and the digest of every script it loads."""
    run = subprocess.run(
        [sys.executable, "-c", LOAD_ALL],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(path)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    answer = json.loads(run.stdout)
    return Path(answer["from"]), answer["shas"]


def test_installed_wheel_loads_the_same_scripts_as_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """An installed wheel and an editable install load the same scripts, byte for byte, each from its own files."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    target = tmp_path / "site"
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)

    installed_at, installed = loaded_with(target, tmp_path)
    checkout_at, checkout = loaded_with(ROOT, tmp_path)

    assert installed_at.is_relative_to(target)
    assert checkout_at.is_relative_to(ROOT)
    assert installed == checkout
    assert "preserve" in installed


def test_two_builds_are_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    """A wheel built elsewhere, later, from files with other times is the same to the last byte."""
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, copy_function=shutil.copyfile)
        elif (ROOT / name).exists():
            shutil.copyfile(ROOT / name, copy / name)
    again = build(copy, tmp_path / "wheel")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, again)]
    assert digests[0] == digests[1]


LOCKED = re.compile(r"^([a-z0-9-]+)==(\S+)(?: ; .*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def locked(lock: str) -> dict[str, str]:
    """The version that a lock file has of each package with hashes."""
    return {name: version for name, version, _ in LOCKED.findall((ROOT / lock).read_text(encoding="utf-8"))}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_lock_has_hashes_for_everything_and_names_no_registry(lock: str) -> None:
    """Each line of a lock is a package with hashes, a hash or a comment: no address, no option, nothing left open."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    rest = [line for line in LOCKED.sub("", text).splitlines() if not line.lstrip().startswith("#")]
    assert rest == []
    assert "://" not in text


def test_locks_agree_and_meet_every_requirement() -> None:
    """Both locks have the same version of what they share, and one that pyproject.toml allows (else: `make lock`)."""
    user, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert user.items() <= dev.items()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    groups = project["dependency-groups"]
    used = [*project["project"]["dependencies"], *extras["embedded"], *extras["cli"], *groups["build"]]
    tools = [row for row in groups["test"] + groups["dev"] if isinstance(row, str)]
    for lock, rows in ((user, used), (dev, used + tools)):
        unmet = [
            str(row) for row in map(Requirement, rows) if lock.get(canonicalize_name(row.name), "") not in row.specifier
        ]
        assert unmet == []
