"""The admin console: virtual databases that answer SHOW and other commands on Penstock."""
