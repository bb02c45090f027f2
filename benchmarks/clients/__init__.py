"""What puts the load on."""
