"""Bodies of requests and answers of models without code: JSON, tables, tensors, images."""
