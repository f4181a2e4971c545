"""A trained student as files for production: written, proved by its own runtime, described.

The files of a folder of export:

    model.safetensors, model.pt2 or model.onnx   the network
    model.py      with safetensors: the code of the network, which needs no kdbench
    config.json   class names, shape and normalisation of images, spec, proof, quantisation
    README.md     the model card
"""
