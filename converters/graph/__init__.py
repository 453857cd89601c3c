"""ONNX graphs: edited, brought into one order, and tree ensembles written into them."""
