/* What libpyrcnn was built with and what runs. Plain C. */
#ifndef PYRCNN_BUILD_INFO_H
#define PYRCNN_BUILD_INFO_H

#ifdef __cplusplus
extern "C" {
#endif

/* A JSON object of strings: "compiler", "cpu_kernels" (the instruction sets with kernels), "cpu_best" (the best one of
 * this processor), "cpu_capability" (the one that runs) and "cuda" (nvcc and the architectures). */
__attribute__((visibility("default"))) const char* pyrcnn_build_info(void);

/* Why no operator can run, or "": the environment variable PYRCNN_CPU_CAPABILITY asks for what this processor lacks. */
__attribute__((visibility("default"))) const char* pyrcnn_error(void);

/* Why this processor cannot run a package that was compiled for the instruction set `needed`, or "". `needed` is the
 * package's metadata entry "pyrcnn.instruction_set"; "" or NULL: any. The text is valid until the thread's next call.
 */
__attribute__((visibility("default"))) const char* pyrcnn_instruction_set_error(const char* needed);

#ifdef __cplusplus
}
#endif

#endif
