"""Every command in the documentation runs."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks
from tests.docs.shell import Shell

PROGRAMS = ("curl", "pgrep")
SESSIONS = {
    page: [block for block in session if not block.not_run]
    for page, session in itertools.groupby(blocks("console"), key=lambda block: block.page)
}
QUOTED = [block for block in blocks("ini", "diff", "dockerfile") if "runprod" in block.text]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Return a terminal in a copy of the example project."""
    return Shell(tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [page for page, session in SESSIONS.items() if session])
def test_commands_of_the_page_run_in_their_order(page: str, tmp_path: Path) -> None:
    commands = [command for block in SESSIONS[page] for command in block.commands]
    for program in PROGRAMS:
        used = any(command.startswith(program) for command in commands)
        if used and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: scripts/install-debian-packages")
    shell = Shell(tmp_path)
    try:
        for command in commands:
            shell.run(command)
    finally:
        shell.end()


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_every_line_that_is_typed_has_a_prompt(block: Block) -> None:
    assert block.commands
    assert len(block.commands) == len(block.text.splitlines())


@pytest.mark.parametrize("block", QUOTED, ids=str)
def test_flags_in_units_and_container_files_are_accepted(block: Block, shell: Shell) -> None:
    for options in runprod_options(block):
        # A descriptor that systemd would pass is not open here.
        given = shlex.join(options).replace("fd://3", "127.0.0.1:0")
        shell.run(f"python manage.py runprod {given} --check-config")


def runprod_options(block: Block) -> list[list[str]]:
    """Return what follows `runprod` in each command of a block that is not typed."""
    found = []
    for line in block.text.splitlines():
        if "runprod" not in line:
            continue
        listed = re.search(r"\[.*\]$", line)
        words = json.loads(listed[0]) if listed else shlex.split(line)
        found.append(words[words.index("runprod") + 1 :])
    assert found
    return found
