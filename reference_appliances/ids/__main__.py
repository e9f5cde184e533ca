"""`python -m reference_appliances.ids`: the IDS as an appliance of its own."""

from __future__ import annotations

from reference_appliances.ids import Ids

if __name__ == "__main__":
    Ids.main()
