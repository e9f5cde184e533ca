"""A local Gateway Load Balancer, and the VPC around it, to try any appliance on one machine."""
