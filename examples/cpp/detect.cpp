// An exported detector on images, without Python:
//   pyrcnn export detector.pt2 --model centernet_mobilenet_v2_fpn_512 --format aoti
//   detect detector.pt2 IMAGE.ppm…
// Images are PPM files (P6), which need no library; Pillow makes one: Image.open("a.jpg").convert("RGB").save("a.ppm").
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <pyrcnn/build_info.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

namespace {

// RGB [1, 3, H, W] uint8.
at::Tensor read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  int64_t width = 0, height = 0, white = 0;
  file >> kind >> width >> height >> white;
  file.get();  // one space before the pixels
  if (!file || kind != "P6" || width <= 0 || height <= 0 || white != 255)
    throw std::runtime_error(path + " must be a PPM file of kind P6 with 255 levels and without comments");
  const at::Tensor pixels = at::empty({1, height, width, 3}, at::kByte);
  if (!file.read(static_cast<char*>(pixels.data_ptr()), pixels.numel()))
    throw std::runtime_error(path + " ends before its last pixel");
  return pixels.permute({0, 3, 1, 2});
}

// Throws if this processor lacks the instruction set that the package was compiled for. Nothing of it has run yet.
void check_processor(const std::string& package) {
  const auto entries = torch::inductor::AOTIModelPackageLoader::load_metadata_from_package(package, "model");
  const auto needed = entries.find("pyrcnn.instruction_set");
  const std::string problem = pyrcnn_instruction_set_error(needed == entries.end() ? "" : needed->second.c_str());
  if (!problem.empty()) throw std::runtime_error(package + " " + problem);
}

void detect(torch::inductor::AOTIModelPackageLoader& detector, const std::string& path) {
  const auto results = detector.run({read_ppm(path)});  // boxes [1, D, 4], scores, labels [1, D], counts [1]
  const auto boxes = results[0][0].to(at::kFloat).contiguous(), scores = results[1][0].to(at::kFloat).contiguous();
  const auto labels = results[2][0].contiguous();
  for (int64_t i = 0; i < results[3].item<int64_t>(); ++i) {
    const float score = scores.const_data_ptr<float>()[i], *box = boxes.const_data_ptr<float>() + 4 * i;
    if (score <= 0.3f) break;  // they are sorted
    std::cout << path << " " << labels.const_data_ptr<int64_t>()[i] << " " << score << " " << box[0] << " " << box[1]
              << " " << box[2] << " " << box[3] << "\n";
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: detect PACKAGE.pt2 IMAGE.ppm...\n";
    return 2;
  }
  const c10::InferenceMode inference;
  try {
    check_processor(argv[1]);
    torch::inductor::AOTIModelPackageLoader detector(argv[1]);
    for (int i = 2; i < argc; ++i) detect(detector, argv[i]);
  } catch (const c10::Error& error) {
    std::cerr << argv[1] << ": " << error.what_without_backtrace() << "\n";
    return 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
