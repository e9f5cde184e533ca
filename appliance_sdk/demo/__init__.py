"""`appliance demo`: the whole picture in half a minute, every claim checked."""
