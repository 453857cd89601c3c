"""Services: a package, a deployment configuration and a target, and how one comes to run there."""
