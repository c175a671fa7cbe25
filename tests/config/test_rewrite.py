"""CONFIG REWRITE on settings files of every form a person may write: what is theirs stays, or nothing is changed."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zattredis.config import rewrite
from zattredis.config.rewrite import HEADING, rewrite_file, rewritten
from zattredis.errors import ConfigError


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{HEADING}\nmaxclients = 7\n"),
        ("port = 1", f"port = 1\n\n{HEADING}\nmaxclients = 7\n"),
        (f"port = 1\n\n{HEADING}\ntimeout_s = 5\n", f"port = 1\n\n{HEADING}\ntimeout_s = 5\nmaxclients = 7\n"),
        ("maxclients = 5", "maxclients = 7"),
        ("  maxclients=5 # five\nport = 1\n", "maxclients = 7 # five\nport = 1\n"),
        ('"maxclients" = 5\n', "maxclients = 7\n"),
        ("# maxclients = 3\nmaxclients = 5\n", "# maxclients = 3\nmaxclients = 7\n"),
        ("requirepass = 'a # b' # d\nmaxclients = 5\n", "requirepass = 'a # b' # d\nmaxclients = 7\n"),
        ('a = [\n  "b",  # one\n  "c",\n]\nmaxclients = 5\n', 'a = [\n  "b",  # one\n  "c",\n]\nmaxclients = 7\n'),
    ],
)
def test_the_rest_of_the_file_stays(before: str, after: str) -> None:
    assert rewritten(before, {"maxclients": 7}) == after
    assert rewritten(after, {"maxclients": 7}) == after


def test_values_over_several_lines_are_replaced_whole() -> None:
    before = 'requirepass = """\\\n  a\\\n  b""" # c\nport = 1\n'
    assert rewritten(before, {"requirepass": "x"}) == 'requirepass = "x" # c\nport = 1\n'


@pytest.mark.parametrize("text", ["max\\u0063lients = 5", "maxclients = = 5", "maxclients = 1\nmaxclients = 2"])
def test_what_is_no_toml_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="it is no TOML"):
        rewritten(text, {"maxclients": 7})


@pytest.mark.parametrize(
    "text", ['"max\\u0063lients" = 5\n', 'requirepass = """\nmaxclients = 1\n"""\nmaxclients = 5\n']
)
def test_a_form_that_is_not_understood_is_refused_not_mangled(text: str) -> None:
    with pytest.raises(ConfigError, match="form that cannot be changed by machine"):
        rewritten(text, {"maxclients": 7})


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), max_size=50))
def test_every_text_comes_back_as_it_was(value: str) -> None:
    text = rewritten("port = 1\n", {"requirepass": value})
    assert tomllib.loads(text) == {"port": 1, "requirepass": value}


def test_the_file_is_replaced_at_once_with_its_mode_and_through_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_bytes(b"maxclients = 5\r\nport = 1\r\n")
    real.chmod(0o640)
    link.symlink_to(real)
    inode = real.stat().st_ino
    assert rewrite_file(str(link), {"maxclients": 7})
    assert link.is_symlink() and real.read_bytes() == b"maxclients = 7\r\nport = 1\r\n"
    assert real.stat().st_mode & 0o777 == 0o640 and real.stat().st_ino != inode
    assert not rewrite_file(str(link), {"maxclients": 7}), "nothing to do"
    assert sorted(os.listdir(tmp_path)) == ["link.toml", "real.toml"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "zattredis.toml"
    file.write_text("maxclients = 5\n")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rewrite.os, "fsync", fail)
    with pytest.raises(ConfigError, match="No space left on device"):
        rewrite_file(str(file), {"maxclients": 7})
    assert file.read_text() == "maxclients = 5\n" and os.listdir(tmp_path) == ["zattredis.toml"]


def test_the_json_form_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "zatt.conf"
    file.write_text('{"debug": true}')
    with pytest.raises(ConfigError, match="JSON form"):
        rewrite_file(str(file), {"maxclients": 7})
