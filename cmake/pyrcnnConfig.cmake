# find_package(pyrcnn): the operators for C++ programs. Set CMAKE_PREFIX_PATH to what this prints:
#   python -c "import pyrcnn, torch; print(pyrcnn.cmake_prefix_path + ';' + torch.utils.cmake_prefix_path)"
# Linking with pyrcnn::pyrcnn registers torch.ops.pyrcnn's operators, on the CPU and, where the package has its library and
# torch is a CUDA build, on CUDA.
include(CMakeFindDependencyMacro)
find_dependency(Torch)

get_filename_component(pyrcnn_ROOT_FOLDER "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
if(NOT TARGET pyrcnn::pyrcnn)
  add_library(pyrcnn::pyrcnn SHARED IMPORTED)
  set_target_properties(pyrcnn::pyrcnn PROPERTIES
    IMPORTED_LOCATION "${pyrcnn_ROOT_FOLDER}/libpyrcnn.so"
    IMPORTED_NO_SONAME FALSE
    INTERFACE_INCLUDE_DIRECTORIES "${pyrcnn_ROOT_FOLDER}/include"
    INTERFACE_COMPILE_FEATURES cxx_std_17
    # A program calls the operators through torch, so the linker would leave the library out.
    INTERFACE_LINK_OPTIONS "LINKER:--no-as-needed")
  target_link_libraries(pyrcnn::pyrcnn INTERFACE ${TORCH_LIBRARIES})
  if(TORCH_CUDA_LIBRARIES AND EXISTS "${pyrcnn_ROOT_FOLDER}/libpyrcnn_cuda.so")
    add_library(pyrcnn::cuda SHARED IMPORTED)
    set_target_properties(pyrcnn::cuda PROPERTIES IMPORTED_LOCATION "${pyrcnn_ROOT_FOLDER}/libpyrcnn_cuda.so")
    target_link_libraries(pyrcnn::pyrcnn INTERFACE pyrcnn::cuda)
  endif()
endif()
set(pyrcnn_FOUND TRUE)
