"""Proves offline what can be proven offline about the manifests: `python -m k8s.check`. Not part of the image."""
