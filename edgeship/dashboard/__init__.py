"""Dashboard: a web application over the fleet store."""
