"""The page's work in Flask, for gunicorn: as such demos do it, and with nnpipe's own reading."""

import io

import numpy as np
from flask import Flask, Response, jsonify, request
from PIL import Image
from threadpoolctl import threadpool_limits

from nnpipe import Classifier
from nnpipe.network import softmax

threadpool_limits(1, "blas")  # one process for each core
classifier = Classifier.load()
(W1, b1), (W2, b2), (W3, b3) = classifier.weights.network.layers
app = Flask(__name__)


@app.post("/plain")
def plain() -> Response:
    """Resize to 28×28, one forward pass, ten probabilities: no preprocessing but that."""
    picture = Image.open(io.BytesIO(request.get_data())).convert("L").resize((28, 28))
    x = 1 - np.asarray(picture, np.float32).reshape(1, 784) / 255  # ink is dark on the page
    a = np.maximum(x @ W1 + b1, 0)
    a = np.maximum(a @ W2 + b2, 0)
    probabilities = softmax(a @ W3 + b3)[0]
    return jsonify(label=int(probabilities.argmax()), probabilities=probabilities.tolist())


@app.post("/same")
def same() -> Response:
    """What nnpipe's API does and answers, without its limits."""
    reading = classifier.read(request.get_data())
    pixels = None if reading.pixels is None else reading.pixels.tolist()
    return jsonify({**vars(reading), "pixels": pixels})
