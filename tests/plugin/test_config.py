from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance_sdk.errors import ConfigError
from appliance_sdk.plugin.config import PluginConfig, decode_config, merged, read_toml


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: int = 0


class Config(PluginConfig, frozen=True):
    hosts: tuple[str, ...] = ()
    inner: dict[str, Inner] = {}
    needed: int = 0


def error(data: object, type_: type = Config) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        decode_config(data, type_, path="a.toml", key="plugins.x")
    return caught.value


def test_an_unknown_key_names_its_near_miss() -> None:
    e = error({"on_eror": "drop"})
    assert (e.path, e.key, e.hint) == ("a.toml", "plugins.x.on_eror", "did you mean `on_error`?")
    assert "\n" not in str(e)


def test_an_unknown_key_deep_down_names_the_whole_path() -> None:
    e = error({"inner": {"a": {"prot": 1}}})
    assert e.hint == "did you mean `port`?"
    assert e.key.startswith("plugins.x.inner")


def test_a_wrong_type_and_a_wrong_choice_say_where() -> None:
    assert error({"needed": "3"}).key == "plugins.x.needed"
    assert error({"hosts": [1]}).key == "plugins.x.hosts[0]"
    assert "Invalid enum value" in str(error({"midstream": "allow"})) or "invalid enum" in str(
        error({"midstream": "allow"})
    )


def test_a_missing_key_is_named() -> None:
    class Must(PluginConfig, frozen=True, kw_only=True):
        policy: str

    assert error({}, Must).key == "plugins.x.policy"


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_toml(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("a = = 1")
    with pytest.raises(ConfigError, match="line 1"):
        read_toml(bad)
    with pytest.raises(ConfigError, match="is a directory"):
        read_toml(tmp_path)


def test_zone_settings_are_laid_over_the_common_ones() -> None:
    base = {"a": 1, "t": {"x": 1, "y": 2}}
    assert merged(base, {"t": {"y": 3}, "b": 4}) == {"a": 1, "b": 4, "t": {"x": 1, "y": 3}}
    assert base["t"] == {"x": 1, "y": 2}
