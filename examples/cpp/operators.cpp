// Operators from C++, without Python: suppression, RoIAlign, a refused gradient and a refused argument.
#include <pyrcnn/build_info.h>
#include <pyrcnn/ops.h>

#include <iostream>

int main() {
  std::cout << pyrcnn_build_info() << "\n";
  const at::Tensor boxes = at::tensor({0., 0., 10., 10., 1., 1., 11., 11., 20., 20., 30., 30.}).view({3, 4});
  const at::Tensor scores = at::tensor({0.9, 0.8, 0.7});
  std::cout << "kept: " << pyrcnn::nms(boxes, scores, 0.5).view({1, -1}) << "\n";

  at::Tensor features = at::ones({1, 8, 50, 68});
  const at::Tensor rois = at::tensor({0., 10., 10., 200., 150.}).view({1, 5}).to(at::kFloat);
  std::cout << "pooled: " << pyrcnn::roi_align(features, rois, 7, 7, 0.25).sizes() << "\n";

  features.requires_grad_();
  try {
    pyrcnn::roi_align(features, rois, 7, 7, 0.25);
  } catch (const c10::Error& error) { std::cout << "refused: " << error.what_without_backtrace() << "\n"; }
  try {
    pyrcnn::nms(boxes, scores.slice(0, 1), 0.5);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    std::cout << "refused: " << text.substr(0, text.find('\n')) << "\n";
  }
}
