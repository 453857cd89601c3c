"""The V1 inference protocol of KServe, which is the REST interface of TensorFlow Serving."""
