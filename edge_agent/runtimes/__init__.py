"""What runs a service: Docker or Podman, crun or runc, or plain processes, behind one protocol."""
