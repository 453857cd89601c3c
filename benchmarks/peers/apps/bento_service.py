"""The model for BentoML: one service, one worker."""

import os

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=1)
class Score:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.environ["AZUREML_MODEL_DIR"] + "/model.onnx"
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        first = self._session.get_inputs()[0]
        self._name = first.name
        self._dtype = np.float64 if "double" in first.type else np.float32

    @bentoml.api
    def score(self, data: list) -> list:
        rows = np.array(data, dtype=self._dtype)
        return self._session.run(["probabilities"], {self._name: rows})[0].tolist()
