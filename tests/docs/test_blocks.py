"""What the documentation gives people to paste is well-formed, and links lead somewhere."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.conf import global_settings

from django_wsgiserve.config.table import table
from tests.docs.pages import REPOSITORY, Block, blocks, pages

SETTING = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")
# Names in capitals that are no settings: of the environment, of WSGI, of exit codes.
OF_OTHERS = {
    *("CONN_MAX_AGE", "DATABASE_URL", "DJANGO_SETTINGS_MODULE", "WEB_CONCURRENCY"),
    *("CONTENT_LENGTH", "REMOTE_ADDR"),
    *("APP_FAILED", "CANNOT_BIND"),
}
# Made from the code, and held to it by tests of their own.
GENERATED = {"settings.md", "access-log.md"}
PROSE = [page for page in pages() if page.name not in GENERATED]
LINK = re.compile(r"\]\((?P<target>[^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_can_be_pasted(block: Block) -> None:
    ast.parse(block.text)


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_keys_of_the_wsgiserve_setting_exist(block: Block) -> None:
    known = {row.key for row in table()}
    for node in ast.parse(block.text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WSGISERVE":
            given = ast.literal_eval(node.value)
            assert set(given) <= known


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_can_be_read(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", blocks("ini"), ids=str)
def test_units_can_be_read(block: Block) -> None:
    text = block.text if block.text.startswith("[") else f"[Service]\n{block.text}"
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    assert parser.sections()


@pytest.mark.parametrize("block", blocks("nginx"), ids=str)
def test_nginx_accepts_its_configuration(block: Block, tmp_path: Path) -> None:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if nginx is None:
        pytest.skip("nginx is not installed: scripts/install-debian-packages")
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/nginx.pid; events {{}} http {{ access_log off;\n{block.text}\n}}\n"
    )
    checked = subprocess.run(
        [nginx, "-t", "-q", "-p", str(tmp_path), "-e", "stderr", "-c", "nginx.conf"],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_within_the_documentation_lead_to_a_file(page: Path) -> None:
    targets = [match["target"] for match in LINK.finditer(page.read_text())]
    local = [target for target in targets if not target.startswith(("http:", "https:"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_settings_that_the_prose_names_exist(page: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    named = set(SETTING.findall(" ".join(re.findall(r"`([A-Z_]+)[`=]", prose))))
    known = {name for row in table() for name in (row.key, row.variable)}
    django = {name for name in named if hasattr(global_settings, name)}
    assert named - known - django - OF_OTHERS == set()
