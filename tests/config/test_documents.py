"""What is written about the settings agrees with the table of settings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from zattredis.cli.config_command import example_file
from zattredis.config import SECTIONS, SETTINGS, load_settings

CONF = Path(__file__).resolve().parents[2] / "conf"


def test_the_example_file_is_current() -> None:
    text = (CONF / "zattredis.toml").read_text()
    assert text == example_file(), "make it anew: python -m zattredis config example > conf/zattredis.toml"


def test_the_example_file_mentions_every_setting_and_changes_nothing() -> None:
    text = (CONF / "zattredis.toml").read_text()
    for spec in SETTINGS.values():
        assert spec.description in text
        assert re.search(rf"^# {spec.name} = ", text, re.MULTILINE)
        if not spec.derived:
            assert f"\n# {spec.name} = {spec.toml(spec.default)}\n" in text
    assert load_settings(config_file=str(CONF / "zattredis.toml")) == load_settings()


def test_the_example_file_uncommented_is_valid() -> None:
    text = re.sub(r"^# (?=\w+ = )", "", (CONF / "zattredis.toml").read_text(), flags=re.MULTILINE)
    document = tomllib.loads(text)
    assert list(document) == list(SETTINGS)
    for name, value in document.items():
        if not SETTINGS[name].derived and not SETTINGS[name].secret:
            assert SETTINGS[name].parse(value) == SETTINGS[name].default, name


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_three_node_files_make_one_cluster(number: int) -> None:
    settings = load_settings(config_file=str(CONF / f"node{number}.toml"))
    assert (settings.node_id, settings.port) == (f"n{number}", 7000 + number)
    assert settings.cluster == load_settings(config_file=str(CONF / "node1.toml")).cluster


def test_zatt_conf() -> None:
    settings = load_settings(config_file=str(CONF / "zatt.conf"))
    assert (settings.node_id, settings.peer_port, len(settings.cluster)) == ("127.0.0.1:5254", 15254, 3)


def test_names_are_unique_and_units_come_last() -> None:
    config_names = [spec.config_name for spec in SETTINGS.values() if spec.config_name]
    assert len(set(config_names)) == len(config_names)
    flags = [flag for spec in SETTINGS.values() for flag in spec.flags]
    assert len(set(flags)) == len(flags)
    for spec in SETTINGS.values():
        assert spec.section in SECTIONS
        if spec.kind == "bytes":
            assert "_bytes" in spec.name
