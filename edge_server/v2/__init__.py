"""The V2 inference protocol of KServe and Triton, with binary tensors."""
