// Every native op, one line each: the table of contents. Defaults live in Python. An op whose name starts with an
// underscore is called by another op's Python wrapper (a backward, say), never by users.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(pyrcnn, m) {
  // boxes
  m.def("decode_boxes(Tensor deltas, Tensor anchors, float[] weights, float clip) -> Tensor");
  // suppression

  // regions of interest

  // heat maps

  // training

}
