"""`appliance bench`: the socket data path measured against a naive loop, every reply checked."""
