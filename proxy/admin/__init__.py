"""What operators see: metrics, health, the admin console."""
