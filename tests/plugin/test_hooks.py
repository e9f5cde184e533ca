from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance_sdk.errors import ConfigError, PluginError
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.config import PluginConfig
from appliance_sdk.plugin.configurable import kebab
from appliance_sdk.plugin.discovery import find_plugin
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.hookspecs import hookimpl
from appliance_sdk.plugin.manager import Enabled, Pipeline, ZoneSettings
from appliance_sdk.plugin.verdict import Verdict


def test_a_near_miss_on_a_plugin_is_refused() -> None:
    with pytest.raises(PluginError, match=r"`flow_open`: did you mean `flow_opened`\?"):

        class Typo(Plugin):
            def flow_open(self, flow: Flow) -> Opening: ...


def test_a_near_miss_on_a_handler_is_refused() -> None:
    with pytest.raises(PluginError, match=r"`packets`: did you mean `packet`\?"):

        class Typo(FlowHandler["Plugin"]):
            def packets(self, packet: object) -> Outcome: ...


def test_a_hook_that_does_not_exist_yet_is_refused_instead_of_never_called() -> None:
    with pytest.raises(PluginError, match="no such hook yet"):

        class Early(FlowHandler["Plugin"]):
            def dns_message(self, message: object) -> Outcome: ...


def test_a_name_in_the_manner_of_other_libraries_is_refused() -> None:
    with pytest.raises(PluginError, match=r"`on_data`: did you mean `data`\?"):

        class Typo(FlowHandler):
            def on_data(self, chunk: object) -> None: ...


def test_a_near_miss_of_a_coming_hook_names_it() -> None:
    with pytest.raises(PluginError, match=r"did you mean `dns_message`\?"):

        class Typo(FlowHandler["Plugin"]):
            def dns_mesage(self, message: object) -> Outcome: ...


def test_helpers_of_ones_own_and_fields_are_left_alone() -> None:
    class Fine(FlowHandler["Plugin"]):
        packets: int = 0

        def report(self) -> None: ...
        def _packets(self) -> None: ...

    assert Fine(3).packets == 3


def test_a_hook_with_the_wrong_arguments_is_refused_at_start_up() -> None:
    class Wrong(Plugin):
        def flow_opened(self, flow: Flow, more: int) -> Opening: ...  # type: ignore[override]

    with pytest.raises(PluginError, match="more"):
        Pipeline.build([Enabled("wrong", Wrong)])


def test_a_hook_may_take_fewer_arguments() -> None:
    closed: list[object] = []

    class Few(Plugin):
        def flow_closed(self, flow: Flow) -> None:  # type: ignore[override]
            closed.append(flow)

    seat = Pipeline.build([Enabled("few", Few)]).seats[0]
    assert seat.flow_closed is not None
    seat.flow_closed("flow", "handler")
    assert closed == ["flow"]


def test_only_hooks_that_are_defined_are_there_and_in_the_configured_order() -> None:
    class A(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return Verdict.DONE

    class B(Plugin):
        def stop(self) -> None: ...

    seats = Pipeline.build([Enabled("b", B), Enabled("a", A)]).seats
    assert [s.name for s in seats] == ["b", "a"]
    assert seats[0].flow_opened is None
    assert seats[1].flow_opened is not None
    assert seats[0].stop is not None


def test_a_plain_object_marks_its_hooks() -> None:
    class Plain:
        @hookimpl
        def flow_opened(self, flow: Flow) -> Opening:
            return None

        def flow_closed(self, flow: Flow) -> None: ...

    seat = Pipeline.build([Enabled("plain", Plain())]).seats[0]
    assert seat.flow_opened is not None
    assert seat.flow_closed is None


class Config(PluginConfig, frozen=True):
    limit: int = 1


class Limited(Plugin):
    config: Config


def test_each_zone_has_its_own_instance_and_settings() -> None:
    zones = {
        "prod": ZoneSettings(("vpce-0a1b2c3d4e5f60718",), {"limited": {"limit": 9}}),
        "dev": ZoneSettings(("vpce-1a2b3c4d",)),
    }
    pipeline = Pipeline.build([Enabled("limited", Limited, {"limit": 5})], zones)
    limits = {name: zone.seats[0].plugin.config.limit for name, zone in pipeline.zones.items()}
    assert limits == {"default": 5, "prod": 9, "dev": 5}
    assert pipeline.endpoints[0xA1B2C3D4E5F60718].name == "prod"
    assert len({id(zone.seats[0].plugin) for zone in pipeline.zones.values()}) == 3


@pytest.mark.parametrize(
    ("zones", "text"),
    [
        ({"a": ZoneSettings(("vpce-xyz",))}, r"zones\.a\.endpoints\[0\]"),
        ({"a": ZoneSettings((), {"limted": {}})}, r"did you mean `limited`\?"),
        (
            {"a": ZoneSettings(("vpce-1a2b3c4d",)), "b": ZoneSettings(("vpce-1a2b3c4d",))},
            "is in zone `a` already",
        ),
        ({"a": ZoneSettings((), {"limited": {"limi": 2}})}, r"zones\.a\.plugins\.limited\.limi"),
    ],
)
def test_mistakes_in_zones_name_their_key(zones: dict[str, ZoneSettings], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Pipeline.build([Enabled("limited", Limited)], zones)


def test_a_plugin_is_listed_once() -> None:
    with pytest.raises(ConfigError, match="listed twice"):
        Pipeline.build([Enabled("limited", Limited), Enabled("limited", Limited)])


def test_config_is_declared_by_annotation_and_inherited() -> None:
    class Child(Limited):
        pass

    assert Child.config_type is Config
    assert Limited().config.limit == 1
    with pytest.raises(PluginError, match="PluginConfig subclass"):

        class Bad(Plugin):
            config: dict[str, Any]


def test_names_are_kebab_case() -> None:
    assert [kebab(n) for n in ("NoTelnet", "IDS", "HTTPGuard", "A1B")] == [
        "no-telnet",
        "ids",
        "http-guard",
        "a1-b",
    ]


def test_finding_a_plugin_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no plugin `nowhere` is installed"):
        find_plugin("nowhere")
    with pytest.raises(PluginError, match="cannot be imported"):
        find_plugin("no_such_module_here:Thing")
    with pytest.raises(PluginError, match="no subclass"):
        find_plugin("decimal:Decimal")


def test_a_file_named_like_a_module_is_pointed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_file_here.py").write_text("class Thing: pass\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match=r"a file is enabled as a_file_here\.py:Thing"):
        find_plugin("a_file_here:Thing")


def test_a_plugin_outside_an_engine_says_so() -> None:
    with pytest.raises(PluginError, match="not running in an engine"):
        Limited().count("x")
