"""Images that run from layers unpacked on the disk: the layers, the images made of them, trees merged of layers."""
