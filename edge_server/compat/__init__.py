"""Our stand-ins for packages that entry scripts import; ``compat.azure`` makes them importable."""
