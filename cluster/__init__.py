"""How the service is named, sized, started and stopped."""
