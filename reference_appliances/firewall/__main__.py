"""`python -m reference_appliances.firewall`: the firewall as an appliance of its own."""

from __future__ import annotations

from reference_appliances.firewall import Firewall

if __name__ == "__main__":
    Firewall.main()
