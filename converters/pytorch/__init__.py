"""PyTorch -> ONNX: exported programs, TorchScript archives, and modules named by an entry point."""
