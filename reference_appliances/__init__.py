"""The reference appliances, each written on the public API of appliance_sdk alone."""
