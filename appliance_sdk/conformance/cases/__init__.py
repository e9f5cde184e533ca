"""The cases, by what they are about; importing this registers them all."""

from appliance_sdk.conformance.cases import (  # noqa: F401
    firewall_evasion,
    firewall_reject,
    firewall_state,
    firewall_verdicts,
    flow_lives,
    geneve,
    gwlb_options,
    ids_alerts,
    ids_prevention,
    ids_streams,
    inner,
    replies,
    robust,
    sizes,
    tuples,
)
