"""Exports: a service as manifests of Kubernetes, KServe, Podman, Compose and IoT Edge, and the check of such files."""
