"""The plugin on a bench: streams and packets, once or each time, detect or prevent."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance_sdk import ConfigError, Verdict
from appliance_sdk.testing import Bench
from reference_appliances.ids import Ids, IdsConfig, RulesLoaded
from reference_appliances.ids.lane import LOOKBACK, MOST_ARMED, MOST_MATCHED

from .conftest import CLIENT, SERVER, MakeBench, handshake, numbered, sids, to_server


class TestStreams:
    def test_a_match_may_cross_segments_and_counts_once_a_direction(
        self, ids_bench: MakeBench
    ) -> None:
        bench = ids_bench(*numbered('msg:"evil"; content:"evil";'), segment=1)
        connection = bench.tcp(CLIENT, SERVER, 80)
        assert connection.client_sends(b"an evil, evil thing")
        assert connection.server_sends(b"evil too")
        assert [alert.to_server for alert in bench.alerts] == [True, False]

    def test_the_parts_of_a_rule_may_come_much_later(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(*numbered('content:"long-one"; content:"z";'))
        connection = bench.tcp(CLIENT, SERVER, 80)
        connection.client_sends(b"long-one")
        for _ in range(20):
            connection.client_sends(b"x" * 100)
        assert sids(bench) == []
        connection.client_sends(b"z")
        assert sids(bench) == [1]

    def test_but_not_from_before_the_look_back(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(*numbered('content:"long-one"; content:"z";'))
        connection = bench.tcp(CLIENT, SERVER, 80)
        connection.client_sends(b"long-one")
        for _ in range(LOOKBACK // 1000 + 1):
            connection.client_sends(b"x" * 1000)
        connection.client_sends(b"z")
        assert sids(bench) == []

    def test_what_must_not_be_there_does_not_fade_with_the_look_back(
        self, ids_bench: MakeBench
    ) -> None:
        bench = ids_bench(*numbered('content:"bad"; content:!"harmless";'))
        connection = bench.tcp(CLIENT, SERVER, 80)
        connection.client_sends(b"harmless")
        connection.client_sends(b"-" * 1000 + b"bad")
        for _ in range(2 * LOOKBACK // 100):
            connection.client_sends(b"-" * 100)
        assert sids(bench) == []
        connection.client_sends(b"bad")
        assert sids(bench) == [1]

    def test_out_of_order_segments_are_put_in_order(self, ids_bench: MakeBench) -> None:
        head = "drop tcp-stream any any -> any any"
        bench = ids_bench(*numbered('content:"evil"; startswith;', head=head), mode="ips")
        for packet in handshake():
            assert bench.send(packet)
        assert bench.send(to_server(b"il", at=2))
        assert not bench.send(to_server(b"ev"))
        assert sids(bench) == [1]

    def test_direction_and_state(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(
            *numbered(
                'content:"x"; flow:to_server;',
                'content:"x"; flow:to_client,established;',
                'content:"x"; flow:not_established;',
            )
        )
        connection = bench.tcp(CLIENT, SERVER, 80)
        connection.client_sends(b"x")
        assert sids(bench) == [1]
        connection.server_sends(b"x")
        assert sids(bench) == [1, 2]

    def test_a_stream_rule_never_looks_at_packets(self, ids_bench: MakeBench) -> None:
        head = "alert tcp-stream any any -> any any"
        bench = ids_bench(*numbered('content:"x"; startswith;', head=head))
        connection = bench.tcp(CLIENT, SERVER, 80)
        connection.client_sends(b"a")
        connection.client_sends(b"x")
        assert sids(bench) == []

    def test_a_content_that_begins_a_packet_counts_too(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(*numbered('content:"x"; startswith;'))
        connection = bench.tcp(CLIENT, SERVER, 80)
        connection.client_sends(b"a")
        connection.client_sends(b"x")
        connection.client_sends(b"x")
        assert sids(bench) == [1]

    def test_expressions_alone(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(*numbered('pcre:"/e.il/";', 'content:!"good";'), segment=1)
        bench.tcp(CLIENT, SERVER, 80).client_sends(b"evil")
        assert sorted(sids(bench)) == [1, 2]


class TestPackets:
    def test_each_packet_counts(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(*numbered("dsize:3;", 'content:"b"; dsize:>1;', "flags:S;"))
        connection = bench.tcp(CLIENT, SERVER, 80)
        for payload in (b"abc", b"abc", b"a", b"b"):
            connection.client_sends(payload)
        assert sorted(sids(bench)) == [1, 1, 2, 2, 3]

    def test_tcp_pkt_does_not_cross_segments(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(*numbered('content:"ab";', head="alert tcp-pkt any any -> any any"))
        connection = bench.tcp(CLIENT, SERVER, 80)
        connection.client_sends(b"a")
        connection.client_sends(b"b")
        assert sids(bench) == []
        connection.client_sends(b"ab")
        assert sids(bench) == [1]

    def test_udp(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(
            'alert udp any any -> any any (content:"ab"; sid:1;)',
            'alert udp any any -> any any (content:"ab"; flow:established; sid:2;)',
        )
        peers = bench.udp(CLIENT, SERVER, 53)
        peers.client_sends(b"ab")
        peers.client_sends(b"ab")
        assert sids(bench) == [1, 1]
        peers.server_sends(b"ab")
        assert sids(bench) == [1, 1, 1, 2]

    def test_a_protocol_without_rules_is_not_looked_at(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(*numbered('content:"a";'))
        peers = bench.udp(CLIENT, SERVER, 53)
        peers.client_sends(b"a")
        assert peers.flow is not None
        assert peers.flow.mode == 0


class TestAddressesOnly:
    def test_once_a_flow_and_direction(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(
            f"alert ip {CLIENT} any -> any any (sid:1;)",
            "alert ip any any -> any any (sid:2;)",
            f"alert tcp any any -> {SERVER} 80 (sid:3;)",
            f"alert tcp any any -> {SERVER} 81 (sid:4;)",
        )
        connection = bench.tcp(CLIENT, SERVER, 80)
        connection.client_sends(b"a")
        connection.server_sends(b"a")
        assert sorted(sids(bench)) == [1, 2, 2, 3]

    def test_with_a_negated_address_each_packet(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(f"alert ip !{SERVER} any -> any any (sid:1;)")
        peers = bench.udp(CLIENT, SERVER, 53)
        peers.client_sends(b"a")
        peers.client_sends(b"a")
        assert sids(bench) == [1, 1]

    def test_a_pass_is_for_the_flow_and_comes_first(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(
            f"pass ip any any -> {SERVER} any (sid:1;)",
            "alert ip any any -> any any (sid:2;)",
            'alert tcp any any -> any any (content:"a"; sid:3;)',
        )
        connection = bench.tcp(CLIENT, SERVER, 80)
        connection.client_sends(b"a")
        connection.server_sends(b"a")
        assert sids(bench) == []


class TestPrevention:
    DROP = 'drop tcp any any -> any any (msg:"no evil"; content:"evil"; sid:5;)'

    def test_the_bytes_that_complete_a_match_never_arrive(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(self.DROP, mode="ips")
        connection = bench.tcp(CLIENT, SERVER, 80)
        assert connection.client_sends(b"an ev")
        assert not connection.client_sends(b"il thing")
        assert not connection.client_sends(b"more")
        assert not connection.server_sends(b"answer")
        assert connection.server_received == b"an ev"
        assert connection.verdict == Verdict.BLOCK
        assert connection.verdict is not None
        assert (connection.verdict.rule, connection.verdict.reason) == ("5", "no evil")
        assert [alert.action for alert in bench.alerts] == ["blocked"]

    @pytest.mark.parametrize("action", ["drop", "reject"])
    def test_detection_reports_and_lets_everything_through(
        self, ids_bench: MakeBench, action: str
    ) -> None:
        bench = ids_bench(self.DROP.replace("drop", action, 1))
        connection = bench.tcp(CLIENT, SERVER, 80)
        assert connection.client_sends(b"an evil thing")
        assert [alert.action for alert in bench.alerts] == ["allowed"]

    def test_reject_tells_both_ends(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(self.DROP.replace("drop", "reject", 1), mode="ips")
        connection = bench.tcp(CLIENT, SERVER, 80)
        assert not connection.client_sends(b"evil")
        assert connection.client_reset
        assert connection.server_reset

    def test_a_packet_rule_drops_the_packet_only(self, ids_bench: MakeBench) -> None:
        bench = ids_bench('drop udp any any -> any any (content:"evil"; sid:5;)', mode="ips")
        peers = bench.udp(CLIENT, SERVER, 53)
        assert not peers.client_sends(b"evil")
        assert peers.client_sends(b"good")

    def test_a_pass_on_a_packet_spares_it_from_the_stream_rules(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(self.DROP, "pass tcp any any -> any any (dsize:4; sid:6;)", mode="ips")
        connection = bench.tcp(CLIENT, SERVER, 80)
        assert connection.client_sends(b"evil")
        assert not connection.client_sends(b" evil")

    def test_data_that_comes_with_the_end_of_the_handshake(self, ids_bench: MakeBench) -> None:
        rule = self.DROP.replace("sid", "flow:established,to_server; sid")
        bench = ids_bench(rule, "alert tcp any any -> any any (flags:A; sid:6;)", mode="ips")
        syn, answer, _last = handshake()
        assert bench.send(syn)
        assert bench.send(answer)
        assert not bench.send(to_server(b"evil"))
        assert sids(bench) == [5]


class TestMidstream:
    RULES = numbered('content:"evil"; flow:established;', 'content:"evil"; flow:not_established;')

    def test_detection_inspects_from_here_on(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(*self.RULES, segment=1)
        assert bench.tcp(CLIENT, SERVER, 80, midstream=True).client_sends(b"evil")
        assert sids(bench) == [1]

    def test_prevention_has_it_begin_again(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(*self.RULES, mode="ips")
        connection = bench.tcp(CLIENT, SERVER, 80, midstream=True)
        assert not connection.client_sends(b"good")
        assert connection.client_reset
        assert connection.verdict is not None
        assert connection.verdict.rule == "midstream"

    def test_packets_only(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(*self.RULES, midstream_flows="packets")
        connection = bench.tcp(CLIENT, SERVER, 80, midstream=True)
        for piece in (b"ev", b"il", b"evil", b"evil"):
            assert connection.client_sends(piece)
        assert sids(bench) == [2, 2]

    def test_block_and_inspect_in_prevention(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(*self.RULES, mode="ips", midstream_flows="block")
        connection = bench.tcp(CLIENT, SERVER, 80, midstream=True)
        assert not connection.client_sends(b"good")
        assert not connection.client_reset
        bench = ids_bench(*self.RULES, mode="ips", midstream_flows="inspect")
        assert bench.tcp(CLIENT, SERVER, 80, midstream=True).client_sends(b"good")


class TestEvents:
    def test_an_alert_has_what_a_signature_has(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(
            'alert tcp any any -> any any (msg:"m"; content:"x"; classtype:trojan-activity; '
            "gid:2; sid:3; rev:4; metadata:a b, a c;)"
        )
        bench.tcp(CLIENT, SERVER, 80).client_sends(b"x")
        (alert,) = bench.alerts
        assert (alert.message, alert.rule, alert.gid, alert.rev) == ("m", "3", 2, 4)
        assert (alert.severity, alert.category) == (1, "Trojan activity")
        assert alert.fields == {"a": ["b", "c"]}

    def test_alerts_of_one_packet_are_bounded(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(*numbered(*['content:"x";'] * 20), alerts_per_packet=4)
        bench.tcp(CLIENT, SERVER, 80).client_sends(b"x")
        assert sids(bench) == [1, 2, 3, 4]
        assert bench.engine.metrics["ids.alerts_suppressed"] == 16

    def test_rules_that_are_left_out_are_named(self, ids_bench: MakeBench) -> None:
        rules = ["alert http any any -> any any (sid:1;)", *numbered("dsize:2;")]
        with pytest.raises(ConfigError, match="protocol http"):
            ids_bench(*rules)
        bench = ids_bench(
            "alert http any any -> any any (sid:9;)", *numbered("dsize:2;"), skip_unsupported=True
        )
        (loaded,) = (event for event in bench.events if isinstance(event, RulesLoaded))
        assert (loaded.rules, loaded.skipped) == (1, 1)
        assert "test.rules:1: sid 9: `protocol http`" in loaded.problems[0]
        assert bench.engine.metrics["ids.rules_skipped"] == 1


class TestReload:
    def test_new_rules_are_for_live_flows_too(self, ids_bench: MakeBench, tmp_path: Path) -> None:
        bench = ids_bench(*numbered('content:"one";'))
        connection = bench.tcp(CLIENT, SERVER, 80)
        connection.client_sends(b"one")
        both = numbered('content:"one";', 'content:"two";')
        (tmp_path / "test.rules").write_text("\n".join(both))
        bench.reload()
        bench.advance(0)
        connection.client_sends(b"one two")
        assert sids(bench) == [1, 2]

    def test_flows_that_nobody_looked_at(self, ids_bench: MakeBench, tmp_path: Path) -> None:
        bench = ids_bench("alert udp any any -> any any (sid:1;)")
        connection = bench.tcp(CLIENT, SERVER, 80)
        connection.client_sends(b"x")
        bodies = 'content:"x";', 'content:"x"; startswith;'
        rules = numbered(*bodies, head="alert tcp-stream any any -> any any")
        (tmp_path / "test.rules").write_text("\n".join(rules))
        bench.reload()
        bench.advance(0)
        connection.client_sends(b"x")
        assert sids(bench) == [1]

    def test_a_mistake_keeps_the_rules(self, ids_bench: MakeBench, tmp_path: Path) -> None:
        bench = ids_bench(*numbered('content:"one";'))
        (tmp_path / "test.rules").write_text("nonsense")
        with pytest.raises(ConfigError):
            bench.reload()
        bench.tcp(CLIENT, SERVER, 80).client_sends(b"one")
        assert sids(bench) == [1]

    def test_what_was_passed_or_blocked_stays_so(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(
            f"pass ip any any -> {SERVER} 22 (sid:1;)",
            'drop tcp any any -> any any (content:"x"; sid:2;)',
            mode="ips",
        )
        passed, blocked = bench.tcp(CLIENT, SERVER, 22), bench.tcp(CLIENT, SERVER, 80)
        assert not blocked.client_sends(b"x")
        bench.reload()
        bench.advance(0)
        assert passed.client_sends(b"x")
        assert not blocked.client_sends(b"a")


def test_a_restart_reports_nothing_again(ids_bench: MakeBench) -> None:
    bench = ids_bench(
        *numbered('content:"one";', 'content:"two";', 'content:"two"; startswith;'),
        "alert ip any any -> any any (sid:9;)",
    )
    connection = bench.tcp(CLIENT, SERVER, 80)
    connection.client_sends(b"one")
    connection.server_sends(b"-")
    before = sids(bench)
    assert sorted(before) == [1, 9, 9]
    bench.restart()
    connection.client_sends(b"-one two")
    connection.server_sends(b"-")
    assert sids(bench) == [*before, 2]


class TestBounds:
    def test_remembered_patterns(self, ids_bench: MakeBench) -> None:
        """More rules half matched than a lane remembers: they are found all the same."""
        bodies = [f'content:"p{n:04}."; content:"z";' for n in range(MOST_ARMED + 50)]
        bench = ids_bench(*numbered(*bodies), alerts_per_packet=10_000)
        connection = bench.tcp(CLIENT, SERVER, 80)
        patterns = b"".join(b"p%04d." % n for n in range(MOST_ARMED + 50))
        for at in range(0, len(patterns), 600):
            connection.client_sends(patterns[at : at + 600])
        assert sids(bench) == []
        connection.client_sends(b"z")
        assert len(sids(bench)) == MOST_ARMED + 50

    def test_remembered_matches(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(
            *numbered(*['content:"x";'] * (MOST_MATCHED + 10)), alerts_per_packet=10_000
        )
        connection = bench.tcp(CLIENT, SERVER, 80)
        connection.client_sends(b"x")
        connection.client_sends(b"x")
        assert len(sids(bench)) == MOST_MATCHED
        bench.restart()
        assert bench.engine.metrics["engine.state_refused"] == 0

    def test_a_flood_of_alerts_does_not_hide_a_drop(self, ids_bench: MakeBench) -> None:
        bench = ids_bench(
            *numbered(*['content:"x";'] * MOST_MATCHED),
            'drop tcp any any -> any any (content:"evil"; sid:9999;)',
            mode="ips",
        )
        connection = bench.tcp(CLIENT, SERVER, 80)
        assert connection.client_sends(b"x")
        assert not connection.client_sends(b"evil")
        assert sids(bench)[-1] == 9999


@pytest.mark.parametrize(
    "wrong",
    [
        {"rules": []},
        {"rules": ["a"], "action_order": ["pass"]},
        {"rules": ["a"], "alerts_per_packet": 0},
        {"rules": ["a"], "mode": "both"},
        {"rules": ["a"], "unknown": 1},
    ],
)
def test_settings_that_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError)):
        msgspec.convert(wrong, IdsConfig)


def test_variables_are_texts_numbers_or_lists(ids_bench: MakeBench) -> None:
    bench = ids_bench(
        "alert tcp $HOME_NET any -> $SERVERS $WEB (sid:1;)",
        vars={"HOME_NET": "10.0.0.0/8", "SERVERS": [SERVER, "192.0.2.9"], "WEB": 80},
    )
    bench.tcp(CLIENT, SERVER, 80)
    bench.tcp(CLIENT, SERVER, 81)
    bench.tcp(CLIENT, "192.0.2.2", 80)
    assert sids(bench) == [1]


def test_no_rules_no_start() -> None:
    with pytest.raises(ConfigError):
        Bench(Ids, rules=["/nowhere.rules"])
