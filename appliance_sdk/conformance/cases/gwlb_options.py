"""The three options of Gateway Load Balancer: endpoint, attachment, cookie."""

from __future__ import annotations

from appliance_sdk.conformance.case import MUST, SHOULD, Profile, case
from appliance_sdk.conformance.encapsulation import attachment_option, cookie_option, option
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.wire.geneve import parse_endpoint

_T = Profile.TRANSPORT
_OBSERVED = "observed: GWLB always sends endpoint, attachment and cookie"


@case("gwlb/no-options", MUST, _T, reference=_OBSERVED)
def no_options(rig: Rig) -> None:
    """GENEVE without any option is not from GWLB: it is dropped, and nothing crashes."""
    flow = rig.tcp()
    rig.returned(flow.syn())
    rig.silence(flow.syn().changed(header=flow.header([])))


@case("gwlb/option-missing", MUST, _T, reference=_OBSERVED)
def option_missing(rig: Rig) -> None:
    """A header without endpoint, attachment or cookie is dropped.

    Also if the packet before had them: gwlbtun does not clear what it has read.
    """
    flow = rig.tcp()
    syn = flow.syn()
    rig.returned(syn)
    options = flow.options
    rig.silence(
        *(
            syn.changed(header=flow.header(options[:number] + options[number + 1 :]))
            for number in range(3)
        )
    )


@case("gwlb/option-length", MUST, _T, reference=_OBSERVED + ", of 8, 8 and 4 bytes")
def option_length(rig: Rig) -> None:
    """A GWLB option of another length than AWS's is dropped."""
    flow = rig.tcp()
    syn = flow.syn()
    rig.returned(syn)
    endpoint, attachment, cookie = flow.options
    number = parse_endpoint(flow.endpoint).to_bytes(8, "big")
    rig.silence(
        syn.changed(header=flow.header([option(1, number[4:]), attachment, cookie])),
        syn.changed(header=flow.header([option(1, number + bytes(4)), attachment, cookie])),
        syn.changed(header=flow.header([endpoint, attachment, option(3, bytes(8))])),
        syn.changed(header=flow.header([endpoint, attachment, option(3, b"")])),
    )


@case("gwlb/option-order", MUST, _T, reference="RFC 8926 §3.5; AWS promises no layout")
def option_order(rig: Rig) -> None:
    """The three options may come in any order, and go back in the same.

    gwlb-xdp matches one fixed layout; AWS has never promised it.
    """
    flow = rig.tcp()
    syn = flow.syn()
    one, two, three = flow.options
    for options in ([three, two, one], [two, one, three], [three, one, two]):
        rig.returned(syn.changed(header=flow.header(options)))


@case("gwlb/option-repeated", SHOULD, _T, reference="ambiguous: which one would count?")
def option_repeated(rig: Rig) -> None:
    """Two cookies of different value in one header: dropped."""
    flow = rig.tcp()
    header = flow.header([*flow.options, cookie_option(flow.cookie ^ 1)])
    rig.silence(flow.syn().changed(header=header))


@case("gwlb/future-option", MUST, _T, reference="RFC 8926 §3.5: unknown options are skipped")
def future_option(rig: Rig) -> None:
    """An option of AWS's class that nobody knows yet is skipped, and comes back."""
    flow = rig.tcp()
    rig.returned(flow.syn().changed(header=flow.header([*flow.options, option(4, bytes(8))])))


@case("gwlb/other-clouds", MUST, _T, reference="IANA GENEVE option classes")
def other_clouds(rig: Rig) -> None:
    """The options of another cloud's load balancer (classes 0x0132, 0x0167) are not AWS's:
    dropped."""
    flow = rig.tcp()
    syn = flow.syn()
    for option_class in (0x0132, 0x0167):
        options = [
            option(kind, data, option_class=option_class)
            for kind, data in ((1, bytes(8)), (2, bytes(8)), (3, bytes(4)))
        ]
        rig.silence(syn.changed(header=flow.header(options)))


@case("gwlb/attachment", MUST, _T, reference="the value is AWS's to choose; only 0 has been seen")
def attachment(rig: Rig) -> None:
    """An attachment id that is not 0 is accepted and comes back."""
    flow = rig.tcp()
    endpoint, _, cookie = flow.options
    options = [endpoint, attachment_option(0x1122334455667788), cookie]
    rig.returned(flow.syn().changed(header=flow.header(options)))


@case("gwlb/every-endpoint", MUST, _T, reference="AWS guide: endpoints come and go")
def every_endpoint(rig: Rig) -> None:
    """Packets of an endpoint that was never seen before are served, or dropped by policy, the
    same each time; other endpoints' flows do not notice."""
    known = rig.tcp()
    rig.returned(*known.handshake())
    for number in range(1, 4):
        flow = rig.udp(endpoint=f"vpce-0{number:016x}")
        datagram = flow.to_server(b"x")
        replies = [rig.answers(datagram) for _ in range(2)]
        headers = {reply.payload[:40] for reply in replies[0] + replies[1]}
        expect(headers <= {datagram.header}, "it came back with another header")
        counts = {len(some) for some in replies}
        expect(len(counts) == 1, "one endpoint's packets were sometimes returned, sometimes not")
    rig.returned(known.to_server(b"still here"))


@case("gwlb/endpoint-replaced", MUST, _T, reference="AWS guide: an endpoint made anew has a new id")
def endpoint_replaced(rig: Rig) -> None:
    """When an endpoint is replaced, packets of a tuple that was known carry the new id: they go
    back with the new one."""
    flow = rig.udp()
    rig.returned(flow.to_server(b"before"), flow.to_client(b"before"))
    flow.endpoint, flow.cookie = "vpce-0123456789abcdef0", rig.cookie()
    rig.returned(flow.to_server(b"after"), flow.to_client(b"after"))
