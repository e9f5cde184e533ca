"""What nobody sends on purpose: random and damaged datagrams, many at a time."""

from __future__ import annotations

from appliance_sdk.conformance.case import MUST, Profile, case
from appliance_sdk.conformance.conversation import Datagram
from appliance_sdk.conformance.rig import Rig, expect

_T = Profile.TRANSPORT


@case("robust/random-datagrams", MUST, _T, reference="whoever reaches UDP 6081 can send anything")
def random_datagrams(rig: Rig) -> None:
    """Five thousand datagrams of random bytes do no harm, and none is answered."""
    for _ in range(50):
        batch = [
            Datagram(b"", rig.random.randbytes(rig.random.randrange(0, 400)), 61000 + n % 32)
            for n in range(100)
        ]
        rig.silence(*batch)


@case("robust/damaged-datagrams", MUST, _T, reference="whoever reaches UDP 6081 can send anything")
def damaged_datagrams(rig: Rig) -> None:
    """Five thousand packets with a few bits turned over, or cut short, do no harm; what is
    returned is returned as it came."""
    before: set[bytes] = set()  # a process that is behind may still answer the last batch
    for _ in range(50):
        batch = []
        for _ in range(100):
            kind = rig.random.randrange(3)
            sound = (
                rig.tcp(ipv6=bool(rig.random.getrandbits(1))).syn()
                if kind
                else rig.udp(ipv6=bool(rig.random.getrandbits(1))).to_server(b"sound" * 9)
            )
            payload = bytearray(sound.payload)
            for _ in range(rig.random.randrange(1, 5)):
                payload[rig.random.randrange(len(payload))] ^= 1 << rig.random.randrange(8)
            if kind == 2:
                payload = payload[: rig.random.randrange(len(payload))]
            batch.append(Datagram(b"", bytes(payload), sound.source_port))
        headers = {datagram.payload[:40] for datagram in batch}
        for reply in rig.answers(*batch):
            known = reply.payload[:40] in headers | before
            expect(known, "a reply's GENEVE header is none of those sent")
        before = headers
