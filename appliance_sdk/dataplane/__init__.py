"""How datagrams get in and out: batched sockets, captures, in memory; one module each."""
