"""Perceptrons with rectified hidden layers: forward and backward, on flat arrays.

All weights of a network lie in one array, so do their gradients and the outputs of its layers; a
`layout` says where. So one compiled function serves networks of any depth and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import lane_part
from kalshi_pipeline.learning.fast.products import multiply

Flat = NDArray[np.float32]
Matrix = NDArray[np.float32]
Layout = NDArray[np.int64]


class Layer(IntEnum):
    """Columns of a layout, which has a row a layer."""

    INPUTS = 0
    OUTPUTS = 1
    WEIGHT = 2  # begin of `[outputs, inputs]` in the parameters
    BIAS = 3  # begin of `[outputs]`


_INPUTS, _OUTPUTS, _WEIGHT, _BIAS = (int(column) for column in Layer)
_ZERO = np.float32(0.0)


def layout_of(widths: Sequence[int]) -> Layout:
    """Layout `[layers, 4]` of a network from its observation's width to its output's."""
    rows, at = [], 0
    for inputs, outputs in pairwise(widths):
        rows.append((inputs, outputs, at, at + inputs * outputs))
        at += (inputs + 1) * outputs
    return np.array(rows, np.int64).reshape(-1, len(Layer))


def parameter_count(layout: Layout) -> int:
    """How many numbers a network has."""
    return int(((layout[:, Layer.INPUTS] + 1) * layout[:, Layer.OUTPUTS]).sum())


def output_room(layout: Layout, rows: int) -> Flat:
    """Room for the outputs of all layers for so many observations."""
    return np.empty(int(layout[:, Layer.OUTPUTS].sum()) * rows, np.float32)


@lane_part
def _add_bias(out: Matrix, bias: Flat, rectified: bool) -> None:
    if rectified:
        for row in range(out.shape[0]):
            for column in range(out.shape[1]):
                out[row, column] = max(out[row, column] + bias[column], _ZERO)
    else:
        for row in range(out.shape[0]):
            for column in range(out.shape[1]):
                out[row, column] += bias[column]


@lane_part
def _sum_rows(values: Matrix, out: Flat) -> None:
    for column in range(out.shape[0]):
        out[column] = _ZERO
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            out[column] += values[row, column]


@lane_part
def _keep_where_lit(gradient: Matrix, lit: Matrix) -> None:
    for row in range(gradient.shape[0]):
        for column in range(gradient.shape[1]):
            if lit[row, column] <= _ZERO:
                gradient[row, column] = _ZERO


@lane_part
def forward(layout: Layout, parameters: Flat, observations: Matrix, outputs: Flat) -> int:
    """Outputs of all layers, one after the other; gives where those of the last begin.

    Args:
        layout: see `layout_of`.
        parameters: float32 of the network.
        observations: float32 `[rows, inputs]`, contiguous.
        outputs: float32 room for as many rows or more.
    """
    rows = observations.shape[0]
    below = observations
    at = 0
    for layer in range(layout.shape[0]):
        inputs, width = layout[layer, _INPUTS], layout[layer, _OUTPUTS]
        begin, bias = layout[layer, _WEIGHT], layout[layer, _BIAS]
        out = outputs[at : at + rows * width].reshape(rows, width)
        weight = parameters[begin : begin + width * inputs].reshape(width, inputs)
        multiply(below, False, weight, True, out)
        _add_bias(out, parameters[bias : bias + width], layer < layout.shape[0] - 1)
        below = out
        at += rows * width
    return at - below.size


@lane_part
def backward(
    layout: Layout,
    parameters: Flat,
    observations: Matrix,
    outputs: Flat,
    slopes: Flat,
    gradients: Flat,
) -> None:
    """Gradients of all parameters from the loss's slope in the outputs of the last layer.

    Args:
        layout: see `layout_of`.
        parameters: float32 of the network.
        observations: float32 `[rows, inputs]`, contiguous.
        outputs: what `forward` left there.
        slopes: float32 room as `outputs`; the last layer's part is given, the rest is made.
        gradients: float32 as `parameters`; overwritten.
    """
    rows = observations.shape[0]
    at = 0
    for layer in range(layout.shape[0]):
        at += rows * layout[layer, _OUTPUTS]
    for layer in range(layout.shape[0] - 1, -1, -1):
        inputs, width = layout[layer, _INPUTS], layout[layer, _OUTPUTS]
        begin, bias = layout[layer, _WEIGHT], layout[layer, _BIAS]
        at -= rows * width
        slope = slopes[at : at + rows * width].reshape(rows, width)
        _sum_rows(slope, gradients[bias : bias + width])
        of_weight = gradients[begin : begin + width * inputs].reshape(width, inputs)
        if layer == 0:
            multiply(slope, True, observations, False, of_weight)
        else:
            first = at - rows * inputs
            below = outputs[first:at].reshape(rows, inputs)
            multiply(slope, True, below, False, of_weight)
            slope_below = slopes[first:at].reshape(rows, inputs)
            weight = parameters[begin : begin + width * inputs].reshape(width, inputs)
            multiply(slope, False, weight, False, slope_below)
            _keep_where_lit(slope_below, below)
