"""The native convolution operators: private, on CPUs, in float32."""

from . import conv_chain, winograd

__all__ = ["conv_chain", "winograd"]
