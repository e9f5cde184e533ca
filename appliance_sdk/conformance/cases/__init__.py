"""The cases, by what they are about; importing this registers them all."""

from appliance_sdk.conformance.cases import (  # noqa: F401
    flow_lives,
    geneve,
    gwlb_options,
    inner,
    replies,
    robust,
    sizes,
    tuples,
)
