"""ONNX Runtime, for inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import Array
from ..networks import Inputs, Network
from .peer import Peer


class OnnxRuntime(Peer):
    """ONNX Runtime on a graph of Gemm, Sigmoid or Relu, Softmax."""

    name = "ONNX Runtime"

    def __init__(self) -> None:
        import onnx
        import onnxruntime

        self.onnx, self.runtime = onnx, onnxruntime

    def use(self, threads: int | None) -> None:
        self._threads = threads  # of the sessions made from now on

    def predictor(self, case: Network, data: Inputs) -> Any:
        helper, to_tensor = self.onnx.helper, self.onnx.numpy_helper.from_array
        nodes, constants, h = [], [], "x"
        for i, (W, b) in enumerate(data.params):
            constants += [to_tensor(W, f"W{i}"), to_tensor(b, f"b{i}")]
            nodes += [helper.make_node("Gemm", [h, f"W{i}", f"b{i}"], [f"z{i}"])]
            last = i == len(data.params) - 1
            nodes += [helper.make_node("Softmax" if last else case.activation.capitalize(), [f"z{i}"], [f"h{i}"])]
            h = f"h{i}"
        element = helper.np_dtype_to_tensor_dtype(np.dtype(case.dtype))
        x, y = (
            helper.make_tensor_value_info(name, element, ["N", size])
            for name, size in (("x", case.sizes[0]), (h, case.sizes[-1]))
        )
        graph = helper.make_graph(nodes, "mlp", [x], [y], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        session = self.runtime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        # Bound memory, as with fastnn's ``out=``: 5 to 25 % faster than session.run on small batches.
        binding, out = session.io_binding(), np.empty((case.batch, case.sizes[-1]), case.dtype)
        binding.bind_output(h, "cpu", 0, out.dtype, out.shape, out.ctypes.data)

        def predict(x: Array) -> Array:
            binding.bind_cpu_input("x", x)
            session.run_with_iobinding(binding)
            return out

        return np.array, predict
