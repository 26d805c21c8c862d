"""Spillway on Kubernetes: manifests, and the check that they are right before they meet a cluster."""
