"""Weights out of a file: what torch, Lightning, compiled and distributed models and safetensors store, under one rule.

`stored.read_weights` is the one way in; it knows no network.
"""
