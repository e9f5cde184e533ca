"""Proves any appliance right against a local Gateway Load Balancer, case by case."""
