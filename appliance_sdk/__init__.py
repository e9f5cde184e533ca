"""Write security appliances for AWS Gateway Load Balancer in Python."""
