"""The model for MLServer, as its documentation has custom runtimes."""

import os

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.environ["AZUREML_MODEL_DIR"] + "/model.onnx"
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = np.ascontiguousarray(NumpyCodec.decode_input(payload.inputs[0]))
        found = self._session.run(["probabilities"], {self._name: rows})[0]
        outputs = [NumpyCodec.encode_output("probabilities", found)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
