"""`python -m appliance_sdk`: the `appliance` program, where its script is not on the path."""

from appliance_sdk.cli.main import main

if __name__ == "__main__":
    main()
