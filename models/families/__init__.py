"""Published spiking networks, one file a paper."""
