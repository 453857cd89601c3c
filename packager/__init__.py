"""The workstation: model registry, layer plan, image output, bundles; the ``edgepack`` command."""
