"""Services as containers of an engine that runs already: Docker, or Podman. Only modules here speak to one."""
