"""Published spiking networks, one module per paper."""
